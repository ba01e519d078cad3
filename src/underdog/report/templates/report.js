(() => {
  "use strict";
  const holder = document.getElementById("chart");
  const figure = JSON.parse(document.getElementById("figure").textContent);

  // The figure names colours and fonts by the page's CSS variables, so that both follow one scheme.
  const painted = (value, style) => {
    if (typeof value === "string") return value.startsWith("--") ? style.getPropertyValue(value).trim() : value;
    if (Array.isArray(value)) return value.map((one) => painted(one, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, painted(one, style)]));
  };
  const draw = () => {
    const { data, layout } = painted(figure, getComputedStyle(document.documentElement));
    const narrow = holder.clientWidth < 560;
    if (narrow) {
      layout.margin = { ...layout.margin, l: 52, r: 8 };
      layout.yaxis.title = undefined;
      layout.font.size = 12;
    }
    layout.width = holder.clientWidth;
    layout.height = holder.clientHeight;
    const unused = ["select2d", "lasso2d", "autoScale2d", "zoomIn2d", "zoomOut2d"];
    Plotly.react(holder, data, layout, { displaylogo: false, displayModeBar: narrow ? false : "hover", modeBarButtonsToRemove: unused });
  };
  draw();
  new ResizeObserver(draw).observe(holder);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  matchMedia("print").addEventListener("change", draw);
})();

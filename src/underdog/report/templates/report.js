(() => {
  "use strict";
  const holder = document.getElementById("chart");
  const figure = JSON.parse(document.getElementById("figure").textContent);

  // The figure names colours and fonts by the page's CSS variables, so that both follow one scheme.
  const painted = (value, style) => {
    if (typeof value === "string") return (value.startsWith("--") && style.getPropertyValue(value).trim()) || value;
    if (Array.isArray(value)) return value.map((one) => painted(one, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, painted(one, style)]));
  };
  const draw = () => {
    const { data, layout } = painted(figure, getComputedStyle(document.documentElement));
    if (holder.clientWidth < 560) {
      layout.margin = { ...layout.margin, l: 52, r: 8 };
      layout.yaxis.title = undefined;
      layout.font.size = 12;
    }
    layout.width = holder.clientWidth;
    layout.height = holder.clientHeight;
    // Only these buttons: the others include one that sends the figures to a server.
    const modeBarButtons = [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]];
    const displayModeBar = holder.clientWidth < 800 ? false : "hover";
    Plotly.react(holder, data, layout, { displaylogo: false, displayModeBar, modeBarButtons, plotlyServerURL: "" });
  };
  draw();
  new ResizeObserver(draw).observe(holder);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  matchMedia("print").addEventListener("change", draw);
})();

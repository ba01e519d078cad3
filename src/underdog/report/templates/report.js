(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);

  // A figure names colours and fonts by the page's CSS variables, so that both follow one scheme.
  const painted = (value, style) => {
    if (typeof value === "string") return (value.startsWith("--") && style.getPropertyValue(value).trim()) || value;
    if (Array.isArray(value)) return value.map((one) => painted(one, style));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, painted(one, style)]));
  };
  const draw = (name) => {
    const holder = document.getElementById(name);
    const { data, layout } = painted(figures[name], getComputedStyle(document.documentElement));
    if (holder.clientWidth < 560) {
      layout.margin = { ...layout.margin, l: layout.yaxis.automargin ? 0 : 52, r: 8 };
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
  const drawAll = () => Object.keys(figures).forEach(draw);
  drawAll();
  for (const name of Object.keys(figures)) new ResizeObserver(() => draw(name)).observe(document.getElementById(name));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  matchMedia("print").addEventListener("change", drawAll);
})();

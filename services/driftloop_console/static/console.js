/* The little that the server cannot do: theme, charts, local ages, JSON bodies of buttons. */
(() => {
  "use strict";
  const root = document.documentElement;
  const theme = localStorage.getItem("theme");
  if (theme) root.dataset.theme = theme;

  htmx.defineExtension("json", {
    onEvent: (name, event) => {
      if (name === "htmx:configRequest") event.detail.headers["Content-Type"] = "application/json";
    },
    encodeParameters: (xhr, parameters) => {
      xhr.overrideMimeType("text/json");
      const plain = {};
      parameters.forEach((value, key) => { plain[key] = value; });
      return JSON.stringify(plain);
    },
  });

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  function draw(box) {
    const chart = JSON.parse(box.dataset.chart);
    const looks = {
      line: { stroke: colour("--line"), width: 2, points: { show: !chart.small && chart.x.length < 60 } },
      limit: { stroke: colour("--limit"), width: 1, dash: [6, 4], points: { show: false } },
      edge: { stroke: colour("--line"), width: 1, points: { show: false } },
      low: { stroke: colour("--band"), width: 1, points: { show: false } },
      high: { stroke: colour("--band"), width: 1, points: { show: false } },
    };
    const bands = [];
    chart.series.forEach((one, index) => {
      if (one.look === "high") bands.push({ series: [index + 1, index], fill: colour("--fill") });
    });
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--rule"), width: 1 }, ticks: { show: false } };
    // Every power of ten, or so many of them that their labels have room.
    const some = (plot, splits) => {
      const exponents = splits.map((value) => Math.round(Math.log10(value) * 1e6) / 1e6);
      const apart = Math.ceil((Math.max(...exponents) - Math.min(...exponents)) / 6) || 1;
      return splits.map((value, index) => (exponents[index] % apart === 0 ? value : null));
    };
    const powers = (one) => ({
      filter: some, grid: { ...one.grid, filter: some },
      values: (plot, splits) => splits.map((value) => (
        value === null ? "" : value < 1e5 && value >= .01 ? String(value) : value.toExponential(0)
      )),
    });
    const width = Math.max(160, box.clientWidth);
    const options = {
      width, height: chart.small ? 90 : 260, bands,
      cursor: { show: !chart.small }, legend: { show: !chart.small },
      // A single point would get an axis of years.
      scales: {
        x: { range: (plot, least, most) => (most > least ? [least, most] : [least - 30, most + 30]) },
        ...(chart.log ? { y: { distr: 3 } } : {}),
      },
      axes: chart.small ? [{ show: false }, { ...axis, size: 40 }] : [axis, { ...axis, size: 64, ...(chart.log ? powers(axis) : {}) }],
      series: [{}, ...chart.series.map((one, index) => ({
        label: one.label, ...looks[one.look],
        ...(one.look === "line" && index ? { stroke: colour(`--line${index % 4}`) || colour("--line") } : {}),
        spanGaps: false,
      }))],
    };
    box.replaceChildren();
    box.plot = new uPlot(options, [chart.x, ...chart.series.map((one) => one.values)], box);
  }

  const drawAll = (within) => within.querySelectorAll(".chart[data-chart]").forEach(draw);

  function age(time) {
    const seconds = (Date.now() - new Date(time.dateTime)) / 1000;
    const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
    const [unit, length] = units.find(([, one]) => Math.abs(seconds) >= 2 * one) || units[3];
    const text = `${Math.round(Math.abs(seconds) / length)} ${unit}`;
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  }
  const ages = (within) => within.querySelectorAll("time").forEach((time) => { time.title = age(time); });

  htmx.onLoad((within) => { drawAll(within); ages(within); });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.id === "theme") {
      const dark = root.dataset.theme ? root.dataset.theme === "dark"
        : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      localStorage.setItem("theme", root.dataset.theme);
      drawAll(document);
    } else if (button.classList.contains("png")) {
      const figure = button.closest("figure");
      const link = document.createElement("a");
      link.href = figure.querySelector("canvas").toDataURL("image/png");
      link.download = `${figure.querySelector("figcaption").textContent}.png`;
      link.click();
    }
  });
  let resized;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(() => drawAll(document), 200); });
})();

// Draws the charts of a page, and changes between light and dark.
"use strict";

(() => {
  const root = document.documentElement;
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const dashes = { teacher: [2, 3], control: [7, 4], distilled: [] };
  const forms = { teacher: "rect", control: "triangle", distilled: "circle" };
  const runColours = 8;

  // A custom property as the colour it is now: the canvas knows neither var() nor light-dark().
  const probe = document.body.appendChild(document.createElement("i"));
  probe.hidden = true;
  const colour = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const faded = (rgb, alpha) => rgb.replace("rgb(", "rgba(").replace(")", `, ${alpha})`);

  const number = (value) => {
    const size = Math.abs(value);
    if (size >= 1000) return value.toLocaleString("en", { maximumFractionDigits: 0 });
    return String(Number(value.toPrecision(4)));
  };
  const compact = (value) =>
    value < 10000 ? number(value) : value.toLocaleString("en", { notation: "compact" });
  const short = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

  // A logarithmic axis has its lines at 1, 2 and 5 of each decade, at 1 alone if there are many.
  function decades(scale) {
    const steps = scale.max / scale.min < 300 ? [1, 2, 5] : [1];
    const ticks = [];
    for (let decade = Math.floor(Math.log10(scale.min)); 10 ** decade <= scale.max; decade++) {
      for (const step of steps) {
        const value = Number(`${step}e${decade}`);
        if (value >= scale.min && value <= scale.max) ticks.push({ value });
      }
    }
    scale.ticks = ticks;
  }

  function axis(spec, { title, log }, labels) {
    const style = { color: colour("quiet"), font: { size: 12 } };
    const scale = {
      title: { ...style, display: true, text: title },
      ticks: { ...style, callback: compact, autoSkipPadding: 12 },
      grid: { color: colour("line"), drawTicks: false },
      border: { display: false },
    };
    if (labels) {
      scale.type = "category";
      scale.labels = labels;
      scale.grid.display = false;
      scale.ticks.callback = (place) => short(labels[place] ?? "", 14);
      scale.ticks.autoSkip = labels.length > 24;
    } else {
      scale.type = log ? "logarithmic" : "linear";
      scale.ticks.maxRotation = 0;
      if (log) Object.assign(scale, { afterBuildTicks: decades });
    }
    if (spec.kind === "scatter") scale.grace = "12%";
    return scale;
  }

  // Room around the points: on a logarithmic axis `grace` does nothing.
  function spread(scale, spec) {
    const all = spec.series.flatMap(({ points }) => points.map(([x]) => x));
    scale.min = Math.min(...all) / 1.8;
    scale.max = Math.max(...all) * 1.8;
  }

  function dataset(spec, series) {
    const tone = colour(series.run ? `run-${series.run[0] % runColours}` : series.arm);
    const shared = { label: series.label, borderColor: tone };
    const points = series.points.map(([x, y]) => ({ x, y }));
    if (spec.kind === "bar") {
      return {
        ...shared,
        data: series.points.map(([, y]) => y),
        backgroundColor: series.arm === "distilled" ? tone : faded(tone, 0.45),
        borderWidth: 1,
        borderRadius: 2,
        categoryPercentage: 0.72,
        barPercentage: 0.9,
        pointStyle: "rect",
      };
    }
    const line = spec.kind === "line";
    return {
      ...shared,
      data: points,
      borderDash: line ? dashes[series.arm] : [],
      borderWidth: line ? 2 : 1.5,
      backgroundColor: line ? tone : faded(tone, series.faint ? 0.15 : 0.75),
      pointStyle: forms[series.arm],
      pointRadius: line ? (points.length === 1 ? 4 : 0) : series.faint ? 5 : 7,
      pointHoverRadius: line ? 4 : 9,
      pointHitRadius: 8,
      tension: 0,
    };
  }

  // The names of a few points beside them, so that no legend has to be read.
  const pointLabels = {
    id: "pointLabels",
    afterDatasetsDraw(chart, _, { on }) {
      if (!on) return;
      const { ctx, chartArea } = chart;
      ctx.save();
      ctx.font = "12px system-ui, sans-serif";
      ctx.textBaseline = "middle";
      chart.data.datasets.forEach((set, i) => {
        const at = chart.getDatasetMeta(i).data[0];
        if (!at) return;
        const left = at.x + 14 + ctx.measureText(set.label).width > chartArea.right;
        ctx.textAlign = left ? "right" : "left";
        ctx.fillStyle = set.borderColor;
        ctx.fillText(set.label, at.x + (left ? -13 : 13), at.y);
      });
      ctx.restore();
    },
  };

  function tooltip(spec) {
    const value = (axis, number_) => `${number(number_)}${axis.unit}`;
    return {
      title: ([first]) => {
        if (!first || spec.kind === "scatter") return "";
        if (spec.kind === "bar") return spec.labels[first.dataIndex];
        return `${spec.x.title} ${number(first.parsed.x)}`;
      },
      label: ({ dataset: set, datasetIndex, dataIndex, parsed }) => {
        const y = value(spec.y, parsed.y);
        if (spec.kind === "scatter") {
          const x = `${value(spec.x, parsed.x)}${spec.x.unit ? "" : ` ${spec.x.title}`}`;
          const lines = spec.series[datasetIndex].names?.[dataIndex].split("\n") ?? [];
          return [`${set.label}: ${y}, ${x}`, ...lines.map((line) => short(line, 44))];
        }
        const total = spec.kind === "bar" ? spec.totals[dataIndex] : undefined;
        return `${set.label}: ${y}${total === undefined ? "" : ` of ${total}`}`;
      },
    };
  }

  function configuration(spec) {
    const bar = spec.kind === "bar";
    const single = spec.series.every(({ points }) => points.length === 1);
    const named = spec.kind === "scatter" && spec.series.length <= 3 && single;
    const x = axis(spec, spec.x, bar ? spec.labels : null);
    if (spec.kind === "scatter" && spec.x.log) spread(x, spec);
    if (spec.kind === "line") x.ticks.precision = 0;
    const y = axis(spec, spec.y, null);
    if (bar) Object.assign(y, { beginAtZero: true, ticks: { ...y.ticks, precision: 0 } });
    const shown = { color: colour("ink"), font: { size: 12 } };
    return {
      type: spec.kind,
      data: { datasets: spec.series.map((series) => dataset(spec, series)) },
      options: {
        animation: false,
        responsive: true,
        maintainAspectRatio: false,
        interaction: { mode: spec.kind === "scatter" ? "nearest" : "index", intersect: false },
        scales: { x, y },
        plugins: {
          pointLabels: { on: named },
          legend: {
            display: !named,
            align: "start",
            onClick: (_, item, { chart }) => toggle(chart, spec, item.datasetIndex),
            labels: {
              ...shown,
              usePointStyle: true,
              ...(spec.kind === "line" ? { pointStyleWidth: 28 } : {}),
              boxHeight: 7,
              padding: 14,
              generateLabels: (chart) => legend(chart, spec),
            },
          },
          tooltip: {
            callbacks: tooltip(spec),
            backgroundColor: colour("surface"),
            titleColor: colour("ink"),
            bodyColor: colour("ink"),
            borderColor: colour("line"),
            borderWidth: 1,
            padding: 10,
            usePointStyle: true,
            boxPadding: 4,
          },
        },
      },
    };
  }

  // A curve's mark in the legend is a piece of its line, dashed as it is. Of several runs, each is named once.
  function legend(chart, spec) {
    let labels = Chart.defaults.plugins.legend.labels.generateLabels(chart);
    const series = (label) => spec.series[label.datasetIndex];
    labels = labels.filter((label) => !series(label).run || series(label).arm === "distilled");
    for (const label of labels) {
      label.text = short(series(label).run?.[1] ?? label.text, 40);
      if (spec.kind === "line") {
        const lineDash = chart.data.datasets[label.datasetIndex].borderDash;
        Object.assign(label, { pointStyle: "line", lineDash, lineWidth: 2 });
      }
    }
    return labels;
  }

  // Shows or hides a curve, or all of a run.
  function toggle(chart, spec, index) {
    const visible = !chart.isDatasetVisible(index);
    const run = spec.series[index].run?.[0];
    spec.series.forEach((series, i) => {
      const same = run === undefined ? i === index : series.run[0] === run;
      if (same) chart.setDatasetVisibility(i, visible);
    });
    chart.update();
  }

  let charts = [];
  function draw() {
    charts.forEach((chart) => chart.destroy());
    charts = specs.map((spec) => new Chart(document.getElementById(spec.id), configuration(spec)));
  }

  document.querySelectorAll("[data-run]").forEach((mark) => {
    mark.style.setProperty("--run", `var(--run-${mark.dataset.run % runColours})`);
  });

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const button = document.querySelector(".theme");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  function apply() {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Show the page in ${isDark() ? "light" : "dark"} colours`);
    draw();
  }
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    apply();
  });
  dark.addEventListener("change", apply);

  // Paper is light, and shows everything.
  let screen;
  addEventListener("beforeprint", () => {
    const closed = [...document.querySelectorAll("details:not([open])")];
    screen = { theme: root.dataset.theme, closed };
    closed.forEach((details) => { details.open = true; });
    root.dataset.theme = "light";
    apply();
    charts.forEach((chart) => chart.resize());
  });
  addEventListener("afterprint", () => {
    screen.closed.forEach((details) => { details.open = false; });
    if (screen.theme) root.dataset.theme = screen.theme;
    else delete root.dataset.theme;
    apply();
  });

  Chart.register(pointLabels);
  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  apply();
})();

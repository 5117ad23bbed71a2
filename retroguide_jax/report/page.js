"use strict";
const figures = JSON.parse(document.getElementById("data").textContent);
const root = document.documentElement;
const charts = [...document.querySelectorAll(".chart")];

/** Plotly draws into SVG with colours of its own: they follow the page's. */
function paint(layout) {
  const style = getComputedStyle(root);
  const [ink, soft, line] = ["--ink", "--soft", "--line"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line, tickfont: { color: soft, size: 11 } };
  const paintAxis = (own) => ({ ...axis, ...own, title: { ...own.title, font: { color: soft, size: 11 } } });
  return {
    ...layout,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, color: ink, size: 12 },
    hoverlabel: { font: { size: 12 } },
    xaxis: paintAxis(layout.xaxis),
    yaxis: paintAxis(layout.yaxis),
    // A finger that scrolls the page must not zoom a chart.
    dragmode: matchMedia("(pointer: fine)").matches ? "zoom" : false,
  };
}

const options = { responsive: true, displayModeBar: false };

function draw(element) {
  const { data, layout } = figures[element.dataset.figure];
  Plotly.react(element, data, paint(layout), options);
}

function isShown(element) {
  return element.offsetParent !== null;
}

function drawAll() {
  charts.filter(isShown).forEach(draw);
}

document.querySelectorAll("details").forEach((element) => element.addEventListener("toggle", drawAll));
document.getElementById("theme").addEventListener("click", () => {
  const isDark = getComputedStyle(root).colorScheme.trim() === "dark";
  root.dataset.theme = isDark ? "light" : "dark";
  drawAll();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
drawAll();

"use strict";
// What every page does: tabs, contents, charts.
(() => {
  const byId = (id) => document.getElementById(id);
  const figures = JSON.parse(byId("data").textContent).figures;

  // Tabs and contents -----------------------------------------------------------------------

  function setUpTabs(tabs) {
    const buttons = [...tabs.querySelectorAll("[role=tab]")];
    const select = (chosen) => buttons.forEach((button) => {
      const isChosen = button === chosen;
      button.setAttribute("aria-selected", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
      byId(button.getAttribute("aria-controls")).hidden = !isChosen;
    });
    buttons.forEach((button, index) => {
      button.addEventListener("click", () => select(button));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!step) return;
        const next = buttons[(index + step + buttons.length) % buttons.length];
        select(next);
        next.focus();
      });
    });
  }

  function setUpContents() {
    const links = [...document.querySelectorAll(".contents a")];
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((found) => found.isIntersecting)) {
        links.forEach((link) => link.classList.toggle("here", link.hash === `#${entry.target.id}`));
      }
    }, { rootMargin: "-20% 0px -70% 0px" });
    links.forEach((link) => observer.observe(document.querySelector(link.hash)));
  }

  // Charts ----------------------------------------------------------------------------------

  let plotly = null;

  async function unpackPlotly() {
    const packed = Uint8Array.from(atob(byId("plotly").textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return window.Plotly;
  }

  function themed(value) {
    if (typeof value === "string" && value.startsWith("--")) {
      return getComputedStyle(document.documentElement).getPropertyValue(value).trim();
    }
    if (Array.isArray(value)) return value.map(themed);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, themed(entry)]));
    return value;
  }

  function themedLayout(layout) {
    const axis = { gridcolor: "--line", zeroline: false, linecolor: "--line", tickfont: { color: "--muted", size: 12.5 }, title: { font: { color: "--muted", size: 13 } } };
    const whole = {
      margin: { t: 16, r: 16, b: 48, l: 56 },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, color: "--ink", size: 13 },
      hoverlabel: { bgcolor: "--surface", bordercolor: "--line", font: { color: "--ink" } },
      xaxis: {}, yaxis: {}, ...layout,
    };
    for (const key of Object.keys(whole).filter((name) => /^[xy]axis\d*$/.test(name))) {
      const own = whole[key];
      whole[key] = { ...axis, ...own, title: { ...axis.title, ...own.title } };
    }
    return themed(whole);
  }

  async function draw(holder) {
    plotly = plotly || unpackPlotly();
    const library = await plotly;
    const figure = figures[holder.dataset.figure];
    await library.react(holder, themed(figure.data), themedLayout(figure.layout), { displayModeBar: false, responsive: true });
    holder.dataset.drawn = "";
  }

  function setUpCharts() {
    const holders = [...document.querySelectorAll("[data-figure]")];
    // A chart in a hidden tab has no size yet: it is drawn when it first comes into view.
    const observer = new IntersectionObserver((entries) => {
      for (const entry of entries.filter((found) => found.isIntersecting)) {
        observer.unobserve(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "600px" });
    holders.forEach((holder) => observer.observe(holder));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      holders.filter((holder) => "drawn" in holder.dataset).forEach(draw);
    });
  }

  document.querySelectorAll(".tabs").forEach(setUpTabs);
  setUpContents();
  setUpCharts();
})();

"use strict";
// A search's own parts: the command to copy, parallel coordinates, the table that sorts.
(() => {
  const byId = (id) => document.getElementById(id);
  const { axes, trials } = JSON.parse(byId("data").textContent).parallel;
  const rows = [...document.querySelectorAll("tr[data-trial]")];

  function makeSvg(tag, attributes = {}, text = "") {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text) element.textContent = text;
    return element;
  }

  // The command -----------------------------------------------------------------------------

  function setUpCopy() {
    byId("copy").addEventListener("click", async (event) => {
      const code = byId("command");
      try {
        await navigator.clipboard.writeText(code.textContent);
        event.target.textContent = "copied";
      } catch {
        // A page opened as a file may not write to the clipboard: it is marked for Ctrl+C.
        getSelection().selectAllChildren(code);
        event.target.textContent = "marked";
      }
      setTimeout(() => { event.target.textContent = "copy"; }, 2000);
    });
  }

  // Parallel coordinates --------------------------------------------------------------------

  const SIZE = { width: 1120, height: 440, left: 46, right: 46, top: 46, bottom: 52 };
  const BELOW = 30; // where a trial goes that has no value on an axis
  const brushes = new Map();
  const svg = byId("parallel");
  const paths = new Map();

  const xOf = (index) => SIZE.left + ((SIZE.width - SIZE.left - SIZE.right) * index) / Math.max(axes.length - 1, 1);
  const yOf = (place) => SIZE.top + (SIZE.height - SIZE.top - SIZE.bottom) * (1 - place);
  const yOfTrial = (axis, number) => (axis.places[number] == null ? yOf(0) + BELOW : yOf(axis.places[number]));

  function drawLine(trial, index) {
    const points = axes.map((axis, place) => [xOf(place), yOfTrial(axis, index)]);
    let path = `M${points[0][0]},${points[0][1].toFixed(1)}`;
    for (let n = 1; n < points.length; n += 1) {
      const [[x0, y0], [x1, y1]] = [points[n - 1], points[n]];
      const middle = (x0 + x1) / 2;
      path += `C${middle},${y0.toFixed(1)} ${middle},${y1.toFixed(1)} ${x1},${y1.toFixed(1)}`;
    }
    const isShort = trial.status !== "completed";
    const element = makeSvg("path", { d: path, class: `${trial.front ? "front " : ""}${isShort ? "short " : ""}${trial.status}` });
    const green = isShort ? 0 : 12 + 88 * trial.quality;
    element.style.stroke = trial.status === "failed" ? "" : `color-mix(in oklab, var(--routed) ${green}%, var(--input))`;
    if (!isShort) element.style.opacity = 0.45 + 0.55 * trial.quality;
    element.addEventListener("pointerenter", () => show(trial.number));
    element.addEventListener("pointerleave", () => show(null));
    paths.set(trial.number, element);
    return element;
  }

  function drawAxis(axis, index) {
    const x = xOf(index);
    const group = makeSvg("g");
    group.append(makeSvg("line", { x1: x, x2: x, y1: yOf(1), y2: yOf(0) }));
    const words = axis.name.includes(", ") ? axis.name.split(", ") : axis.name.split(/ (?=\S+$)/);
    words.forEach((word, row) => group.append(makeSvg("text", { x, y: 16 + 14 * row, "text-anchor": "middle", class: "axis" }, word)));
    if (axis.places.some((place) => place == null)) {
      group.append(makeSvg("text", { x, y: yOf(0) + BELOW + 16, "text-anchor": "middle" }, "none"));
    }
    const isLast = index === axes.length - 1;
    for (const [place, text] of axis.ticks) {
      group.append(makeSvg("text", { x: isLast ? x + 7 : x - 7, y: yOf(place) + 4, "text-anchor": isLast ? "start" : "end", class: "tick" }, text));
    }
    group.append(makeSvg("rect", { class: "brush", x: x - 7, width: 14, y: 0, height: 0 }));
    const grab = makeSvg("rect", { class: "grab", x: x - 16, width: 32, y: yOf(1) - 8, height: yOf(0) - yOf(1) + 16 });
    group.append(grab);
    setUpBrush(axis, group, grab);
    return group;
  }

  function setUpBrush(axis, group, grab) {
    let start = null;
    const placeOf = (event) => {
      const box = svg.getBoundingClientRect();
      const y = ((event.clientY - box.top) * SIZE.height) / box.height;
      return Math.min(Math.max((yOf(0) - y) / (yOf(0) - yOf(1)), -0.03), 1.03);
    };
    grab.addEventListener("pointerdown", (event) => {
      grab.setPointerCapture(event.pointerId);
      start = placeOf(event);
      brushes.delete(axis.key);
      keep();
    });
    grab.addEventListener("pointermove", (event) => {
      if (!grab.hasPointerCapture(event.pointerId)) return;
      const now = placeOf(event);
      if (Math.abs(now - start) < 0.015) return;
      brushes.set(axis.key, [Math.min(start, now), Math.max(start, now)]);
      keep();
    });
    group.dataset.axis = axis.key;
  }

  const isKept = (index) => axes.every((axis) => {
    const range = brushes.get(axis.key);
    if (!range) return true;
    const place = axis.places[index];
    return place != null && place >= range[0] && place <= range[1];
  });

  function keep() {
    let count = 0;
    trials.forEach((trial, index) => {
      const isIn = isKept(index);
      count += isIn;
      paths.get(trial.number).classList.toggle("out", !isIn);
      rows.find((row) => Number(row.dataset.trial) === trial.number).classList.toggle("out", !isIn);
    });
    for (const group of svg.querySelectorAll("g[data-axis]")) {
      const range = brushes.get(group.dataset.axis);
      const brush = group.querySelector(".brush");
      brush.setAttribute("y", range ? yOf(range[1]) : 0);
      brush.setAttribute("height", range ? yOf(range[0]) - yOf(range[1]) : 0);
    }
    byId("kept").textContent = brushes.size ? `${count} of ${trials.length} trials are kept.` : "";
  }

  function show(number) {
    paths.forEach((path, other) => path.classList.toggle("shown", other === number));
    rows.forEach((row) => row.classList.toggle("shown", Number(row.dataset.trial) === number));
    if (number == null) { keep(); return; }
    const index = trials.findIndex((trial) => trial.number === number);
    const said = axes.map((axis) => `${axis.name} ${axis.texts[index]}`).join(", ");
    byId("kept").textContent = `#${number} ${trials[index].shape}, ${trials[index].status}: ${said}`;
  }

  function drawParallel() {
    svg.setAttribute("viewBox", `0 0 ${SIZE.width} ${SIZE.height}`);
    // The best lie on top.
    const order = trials.map((trial, index) => [trial, index]).sort(([a], [b]) => (a.status === "completed") - (b.status === "completed") || a.quality - b.quality);
    svg.append(...order.map(([trial, index]) => drawLine(trial, index)), ...axes.map(drawAxis));
  }

  // The table -------------------------------------------------------------------------------

  function setUpSorting() {
    const table = document.querySelector(".trials");
    const body = table.tBodies[0];
    for (const button of table.querySelectorAll("[data-sort]")) {
      button.addEventListener("click", () => {
        const heading = button.closest("th");
        const first = ["number", "status", "gpu_hours"].includes(button.dataset.sort) ? "ascending" : "descending";
        const other = first === "ascending" ? "descending" : "ascending";
        const order = heading.getAttribute("aria-sort") === first ? other : first;
        table.querySelectorAll("th[aria-sort]").forEach((old) => old.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", order);
        const attribute = `data-${button.dataset.sort.replace("_", "-")}`;
        const value = (row) => Number(row.getAttribute(attribute));
        body.append(...[...rows].sort((a, b) => (order === "ascending" ? 1 : -1) * (value(a) - value(b))));
      });
    }
    rows.forEach((row) => {
      row.addEventListener("pointerenter", () => show(Number(row.dataset.trial)));
      row.addEventListener("pointerleave", () => show(null));
    });
  }

  if (byId("copy")) setUpCopy();
  if (trials.length) {
    drawParallel();
    setUpSorting();
  }
})();

"use strict";
(() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const page = read("data");
  const images = read("images");
  const byId = (id) => document.getElementById(id);
  const source = (name) => `data:image/png;base64,${images[name]}`;

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  function makeSvg(tag, attributes = {}, text = "") {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text) element.textContent = text;
    return element;
  }

  const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;

  const decibel = (value) => (value == null ? "" : `${value.toFixed(2)} dB`);

  function makeBar(label, share, text, isChosen) {
    const bar = make("b", { style: `width: ${Math.min(Math.max(100 * share, 0), 100)}%` });
    return make("div", isChosen ? { class: "chosen" } : {}, make("span", {}, label), make("i", {}, bar), make("span", {}, text));
  }

  // Before and after ------------------------------------------------------------------------

  const KINDS = page.names;
  const COMPARED = ["one_network", "one_network_tree"];
  const CHOICES = { left: ["input", ...COMPARED, "clean"], right: ["routed", ...COMPARED, "clean"] };
  const shown = { example: 0, left: "input", right: "routed" };

  function slide(percentFromLeft) {
    const at = Math.min(Math.max(percentFromLeft, 0), 100);
    const frame = byId("compare");
    frame.style.setProperty("--at", `${at}%`);
    frame.setAttribute("aria-valuenow", String(Math.round(at)));
    byId("left-tag").classList.toggle("covered", at < 18);
    byId("right-tag").classList.toggle("covered", at > 82);
  }

  function showSide(side) {
    const example = page.examples[shown.example];
    const available = CHOICES[side].filter((kind) => example.images[kind]);
    const kind = available.includes(shown[side]) ? shown[side] : available[0];
    const holder = byId(`${side}-choice`);
    holder.replaceChildren(...available.map((choice) => {
      const button = make("button", { type: "button", "aria-pressed": String(choice === kind) }, KINDS[choice]);
      button.addEventListener("click", () => { shown[side] = choice; showSide(side); });
      return button;
    }));
    if (!kind) return;
    const image = byId(`${side}-image`);
    image.src = source(example.images[kind]);
    image.alt = `${example.caption}, ${KINDS[kind]}`;
    byId(`${side}-tag`).replaceChildren(KINDS[kind], make("b", {}, decibel(example.psnr[kind])));
  }

  function showExample(index) {
    shown.example = index;
    document.querySelectorAll(".thumb").forEach((thumb, number) => thumb.setAttribute("aria-pressed", String(number === index)));
    showSide("left");
    showSide("right");
    slide(50);
    showRoute(page.examples[index]);
  }

  function buildStrips() {
    let [place, strip] = [null, null];
    page.examples.forEach((example, index) => {
      if (example.place !== place) {
        place = example.place;
        strip = make("div", { class: "strip", role: "group", "aria-label": place });
        byId("strips").append(make("h4", {}, place), strip);
      }
      const first = example.images.input || Object.values(example.images)[0];
      const thumb = make("button", { class: "thumb", type: "button", "aria-label": `${example.caption}, ${example.place}` });
      if (first) thumb.append(make("img", { src: source(first), alt: "" }));
      thumb.append(example.task || example.caption);
      if (example.gain) thumb.append(make("b", example.gain.startsWith("+") ? {} : { class: "bad" }, `${example.gain} dB`));
      thumb.addEventListener("click", () => showExample(index));
      strip.append(thumb);
    });
  }

  function setUpSlider() {
    const frame = byId("compare");
    const follow = (event) => {
      const box = frame.getBoundingClientRect();
      slide((100 * (event.clientX - box.left)) / box.width);
    };
    frame.addEventListener("pointerdown", (event) => {
      frame.setPointerCapture(event.pointerId);
      follow(event);
    });
    frame.addEventListener("pointermove", (event) => {
      if (frame.hasPointerCapture(event.pointerId)) follow(event);
    });
    const steps = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
    frame.addEventListener("keydown", (event) => {
      if (!(event.key in steps)) return;
      event.preventDefault();
      slide(Number(frame.getAttribute("aria-valuenow")) + steps[event.key]);
    });
    byId("right-image").addEventListener("load", (event) => {
      frame.style.aspectRatio = `${event.target.naturalWidth} / ${event.target.naturalHeight}`;
    });
    byId("pixels").addEventListener("click", (event) => {
      const on = frame.classList.toggle("pixelated");
      event.target.setAttribute("aria-pressed", String(on));
    });
  }

  // The router's choice ---------------------------------------------------------------------

  const numLevels = 1 + Math.max(-1, ...page.nodes.map((node) => node.level));
  const leaves = page.nodes.filter((node) => node.level === numLevels - 1);

  function pathTo(leaf) {
    const path = [];
    for (let node = leaf; node; node = page.nodes.find((other) => other.index === node.parent)) path.unshift(node);
    return path;
  }

  function showRoute(example) {
    const route = example.route;
    byId("route-title").textContent = example.caption;
    byId("route-sentence").replaceChildren();
    byId("route-tree").replaceChildren();
    byId("route-levels").replaceChildren();
    const psnr = ["input", ...COMPARED, "routed"].filter((kind) => example.psnr[kind] != null);
    const top = Math.max(...psnr.map((kind) => example.psnr[kind]), 30);
    byId("route-psnr").replaceChildren(...psnr.map((kind) => makeBar(KINDS[kind], example.psnr[kind] / top, decibel(example.psnr[kind]), kind === "routed")));
    if (!route) return;
    const chosen = page.nodes.find((node) => node.index === route.node);
    const words = chosen && chosen.label ? ` (${chosen.label})` : "";
    const sure = route.confidence == null ? [] : [", with confidence ", make("b", {}, percent(route.confidence))];
    byId("route-sentence").append(...(route.as_is
      ? ["Left as it is", ...sure, "."]
      : ["Restored by expert ", make("b", {}, `#${route.node}${words}`), ` at level ${route.level}`, ...sure, "."]));
    drawRoute(route);
    (route.level_probabilities || []).forEach((share, level) => {
      byId("route-levels").append(makeBar(`level ${level}`, share, percent(share), !route.as_is && level === route.level));
    });
  }

  function drawRoute(route) {
    if (!leaves.length) return;
    const row = leaves.length > 12 ? 17 : 26;
    const gap = Math.min(58, 150 / Math.max(numLevels - 1, 1));
    const bars = 12 + gap * (numLevels - 1) + 16;
    const svg = byId("route-tree");
    svg.setAttribute("viewBox", `0 0 400 ${row * leaves.length + 4}`);
    const y = {};
    leaves.forEach((leaf, number) => { y[leaf.index] = row * (number + 0.5) + 2; });
    for (const node of [...page.nodes].reverse()) {
      const below = page.nodes.filter((child) => child.parent === node.index);
      if (below.length) y[node.index] = (y[below[0].index] + y[below[below.length - 1].index]) / 2;
    }
    const x = (node) => 12 + gap * node.level;
    const path = new Set(route.as_is ? [] : pathTo(leaves[route.leaf]).map((node) => node.index));
    const edges = page.nodes.filter((node) => node.parent != null);
    edges.sort((a, b) => path.has(a.index) - path.has(b.index));
    for (const node of edges) {
      const parent = page.nodes.find((other) => other.index === node.parent);
      const [x0, x1, middle] = [x(parent), x(node), (x(parent) + x(node)) / 2];
      const isTaken = path.has(node.index);
      svg.append(makeSvg("path", {
        d: `M${x0},${y[parent.index]}C${middle},${y[parent.index]} ${middle},${y[node.index]} ${x1},${y[node.index]}`,
        fill: "none", stroke: isTaken ? "var(--routed)" : "var(--line)", "stroke-width": isTaken ? 3 : 1.5,
        "stroke-dasharray": isTaken && node.level > route.level ? "3 5" : "none",
      }));
    }
    for (const node of page.nodes) {
      const isStop = path.has(node.index) && node.level === route.level;
      svg.append(makeSvg("circle", {
        cx: x(node), cy: y[node.index], r: isStop ? 8 : 4.5, stroke: "var(--page)", "stroke-width": 2,
        fill: path.has(node.index) && node.level <= route.level ? "var(--routed)" : path.has(node.index) ? "var(--routed-soft)" : "var(--input)",
      }));
    }
    leaves.forEach((leaf, number) => drawLeaf(svg, route, leaf, number, bars, y[leaf.index]));
  }

  function drawLeaf(svg, route, leaf, number, left, y) {
    const share = (route.leaf_probabilities || [])[number];
    const isChosen = !route.as_is && number === route.leaf;
    const group = makeSvg("g", isChosen ? { class: "chosen" } : {});
    const label = leaf.label.length > 13 ? `${leaf.label.slice(0, 12)}…` : leaf.label;
    group.append(makeSvg("text", { x: left, y: y + 4 }, label || `leaf ${number}`));
    if (share != null) {
      const [start, width] = [left + 88, 400 - left - 88 - 48];
      group.append(makeSvg("rect", { x: start, y: y - 4, width, height: 8, rx: 4, fill: "var(--raised)" }));
      group.append(makeSvg("rect", { x: start, y: y - 4, width: Math.max(width * share, 2), height: 8, rx: 4, fill: isChosen ? "var(--routed)" : "var(--input)" }));
      group.append(makeSvg("text", { x: 400, y: y + 4, "text-anchor": "end" }, percent(share)));
    }
    svg.append(group);
  }

  if (page.examples.length) {
    buildStrips();
    setUpSlider();
    // The first that an expert restored: one that was left as it is shows nothing of the tree.
    showExample(Math.max(0, page.examples.findIndex((example) => example.route && !example.route.as_is)));
  }
})();

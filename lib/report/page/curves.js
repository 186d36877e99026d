// The curves of one run: loss, accuracy and learning rate over the epochs.

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [360, 230, 50, 12, 10, 36];
const PANELS = [
  { title: "Loss", unit: "loss (nats)", ends: "_loss" },
  { title: "Accuracy", unit: "accuracy (%)", ends: "_accuracy" },
  { title: "Learning rate", unit: "learning rate", ends: "lr" },
];

// At most `count + 1` round numbers between two bounds, 1, 2 or 5 times a power of ten apart, with their texts.
function roundTicks(low, high, count, least = 0) {
  const span = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(span));
  const step = Math.max(least, [1, 2, 5, 10].map((by) => by * power).find((by) => by >= span * (1 - 1e-9)));
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const text = (value) => (decimals > 4 && value ? value.toExponential(1) : value.toFixed(decimals)).replace("-", "−");
  const ticks = [];
  for (let at = Math.ceil(low / step - 1e-9); at * step <= high + 1e-9 * step; at++) {
    ticks.push([at * step, text(at * step)]);
  }
  return ticks;
}

function short(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (value !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2).replace("-", "−");
  return String(Number(value.toPrecision(4))).replace("-", "−");
}

const nameOf = (key, ends) => (key.slice(0, -ends.length) || key).replaceAll("_", " ").trim();

function bounds(series, pad) {
  const values = series.flatMap((one) => one.values.filter((value) => value != null));
  let [low, high] = [values.reduce((a, b) => Math.min(a, b)), values.reduce((a, b) => Math.max(a, b))];
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) * 0.05, high + (Math.abs(high) || 1) * 0.05];
  const more = pad * (high - low);
  return [low - more, high + more];
}

function panel({ title, unit, ends }, epochs, columns, others) {
  const keys = Object.keys(columns).filter((key) => (ends === "lr" ? key === "lr" : key.endsWith(ends)));
  const series = keys
    .map((key) => ({ key, name: ends === "lr" ? "rate" : nameOf(key, ends), values: columns[key] }))
    .filter((one) => one.values.some((value) => value != null));
  if (!series.length) return null;
  const [first, last] = [Math.min(epochs[0], 1), Math.max(epochs.at(-1), epochs[0] + 1)];
  // The other seeds of the setting stand behind, pale: how much of a curve is chance.
  const pale = others.flatMap((other) =>
    series.map(({ key }, at) => ({ at, epochs: other.epoch, values: other[key] ?? [] })).filter((one) => one.epochs),
  );
  const [low, high] = bounds([...series, ...pale], 0.05);
  const x = (epoch) => LEFT + ((epoch - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - ((value - low) / (high - low)) * (HEIGHT - TOP - BOTTOM);

  const frame = svg("g", { class: "frame" });
  for (const [tick, text] of roundTicks(low, high, 5)) {
    frame.append(
      svg("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(tick), y2: y(tick) }),
      svg("text", { x: LEFT - 6, y: y(tick) + 4, "text-anchor": "end" }, text),
    );
  }
  for (const [tick, text] of roundTicks(first, last, 6, 1)) {
    frame.append(svg("text", { x: x(tick), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, text));
  }
  const base = HEIGHT - BOTTOM;
  frame.append(
    svg("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: base, y2: base }),
    svg("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle" }, "epoch"),
    svg("text", { x: -(TOP + base) / 2, y: 11, transform: "rotate(-90)", "text-anchor": "middle" }, unit),
  );

  const line = (at, where, values, kind) => {
    const points = values
      .map((value, i) => (value == null || where[i] > last ? null : [x(where[i]), y(value)]))
      .filter(Boolean);
    const path = points.map(([px, py], i) => `${i ? "L" : "M"}${px.toFixed(1)} ${py.toFixed(1)}`).join("");
    const dots = points.length < 30 ? points : [];
    return svg(
      "g",
      { class: `${kind} s${at % 6}` },
      svg("path", { d: path }),
      ...dots.map(([cx, cy]) => svg("circle", { cx, cy, r: 2.2 })),
    );
  };
  const lines = [
    ...pale.map((one) => line(one.at, one.epochs, one.values, "series pale")),
    ...series.map((one, at) => line(at, epochs, one.values, "series")),
  ];
  const guide = svg("line", { class: "guide", y1: TOP, y2: base });
  const label = `${title} over the epochs; the arrow keys move from epoch to epoch`;
  const picture = svg(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: 0, role: "img", "aria-label": label },
    frame, guide, ...lines,
  );
  const values = series.map(() => el("b"));
  const legend = el(
    "p",
    { class: "legend" },
    ...series.map(({ name }, at) => el("span", { class: `s${at % 6}` }, el("i"), `${name} `, values[at])),
  );
  // Shows an epoch; accuracy is not taken in every one.
  const show = (i) => {
    guide.setAttribute("x1", x(epochs[i]));
    guide.setAttribute("x2", x(epochs[i]));
    series.forEach((one, at) => (values[at].textContent = short(one.values[i])));
  };
  const nearest = (event) => {
    const box = picture.getBoundingClientRect();
    const wanted = first + (((event.clientX - box.x) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * (last - first);
    return epochs.reduce((best, epoch, i) => (Math.abs(epoch - wanted) < Math.abs(epochs[best] - wanted) ? i : best), 0);
  };
  const figure = el("figure", {}, el("figcaption", {}, el("strong", {}, title), legend), picture);
  return { figure, picture, show, nearest };
}

// All the panels; pointing at an epoch in one of them shows it in all.
function curves(columns, siblings) {
  const epochs = columns.epoch;
  if (!epochs?.length) return el("p", { class: "soft" }, "This run has left no metrics.");
  const panels = PANELS.map((one) => panel(one, epochs, columns, siblings.map((other) => other.curves))).filter(Boolean);
  const where = el("output", { "aria-live": "polite" });
  let current = epochs.length - 1;
  const show = (i) => {
    current = Math.max(0, Math.min(epochs.length - 1, i));
    panels.forEach((one) => one.show(current));
    where.textContent = `epoch ${epochs[current]} of ${epochs.at(-1)}`;
  };
  for (const { picture, nearest } of panels) {
    picture.addEventListener("pointermove", (event) => show(nearest(event)));
    picture.addEventListener("pointerleave", () => show(epochs.length - 1));
    picture.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowRight: 1, Home: -epochs.length, End: epochs.length }[event.key];
      if (!move) return;
      event.preventDefault();
      event.stopPropagation();
      show(current + move);
    });
  }
  show(current);
  const pale = siblings.length ? "; pale, the other seeds" : "";
  return el("div", {}, el("p", { class: "where" }, where, pale), el("div", { class: "panels" }, ...panels.map((one) => one.figure)));
}

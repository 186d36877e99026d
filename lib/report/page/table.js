// The table of settings: sorting, filtering, unfolding the runs.

const table = document.querySelector("#settings table");
const groups = [...table.tBodies];
const heads = [...table.tHead.rows[0].cells];
const controls = document.querySelector(".filters");
const order = controls.querySelector("[name=sort]");

function sortBy(column, direction) {
  const number = heads[column].dataset.kind === "number";
  const sign = direction === "ascending" ? 1 : -1;
  const key = (group) => group.rows[0].cells[column].dataset.sort ?? "";
  const compare = (a, b) => {
    const [x, y] = [key(a), key(b)];
    // Rows without a value are last, in either order.
    if (x === "" || y === "") return (x === "") - (y === "");
    return sign * (number ? x - y : x.localeCompare(y, "en", { numeric: true }));
  };
  groups.sort(compare);
  table.append(...groups);
  heads.forEach((head, at) => {
    if (at === column) head.setAttribute("aria-sort", direction);
    else head.removeAttribute("aria-sort");
  });
  order.value = `${column} ${direction}`;
}

heads.forEach((head, column) => {
  const first = head.dataset.first ?? "ascending";
  const other = { ascending: "descending", descending: "ascending" };
  head.querySelector("button")?.addEventListener("click", () => {
    const now = head.getAttribute("aria-sort");
    sortBy(column, now ? other[now] : first);
  });
});
order.addEventListener("change", () => {
  const [column, direction] = order.value.split(" ");
  sortBy(Number(column), direction);
});

function matches(group) {
  const { words, trick, status, dataset } = controls.elements;
  const has = (list, value) => value === "" || list.split(" ").includes(value);
  const text = group.dataset.text;
  return (
    words.value.toLowerCase().split(/\s+/).every((word) => text.includes(word)) &&
    has(group.dataset.tricks, trick.value) &&
    has(group.dataset.status, status.value) &&
    has(group.dataset.dataset, dataset.value)
  );
}

function filter() {
  let shown = 0;
  for (const group of groups) {
    group.hidden = !matches(group);
    shown += !group.hidden;
    for (const mark of document.querySelectorAll(`.forest [id^=${group.id}-]`)) {
      mark.classList.toggle("pale", group.hidden);
    }
  }
  document.getElementById("shown").textContent =
    shown === groups.length ? `${shown} settings` : `${shown} of ${groups.length} settings`;
  document.getElementById("nothing").hidden = shown > 0;
}

controls.addEventListener("input", filter);
controls.addEventListener("reset", () => setTimeout(filter)); // after the fields are cleared
controls.addEventListener("submit", (event) => event.preventDefault());

function unfold(group, open) {
  group.querySelector(".unfold").setAttribute("aria-expanded", open);
  for (const row of [...group.rows].slice(1)) row.hidden = !open;
}

const isOpen = (group) => group.querySelector(".unfold").getAttribute("aria-expanded") === "true";

for (const group of groups) {
  group.addEventListener("click", (event) => {
    if (event.target.closest("a") || String(getSelection())) return; // a link, or selected text
    const row = event.target.closest("tr");
    if (row === group.rows[0]) unfold(group, !isOpen(group));
    else row.querySelector("a").click();
  });
}
const all = document.getElementById("unfold-all");
all.addEventListener("click", () => {
  const open = groups.some((group) => !group.hidden && !isOpen(group));
  groups.forEach((group) => unfold(group, open));
  all.textContent = open ? "Hide all runs" : "Show all runs";
});

for (const link of document.querySelectorAll(".forest a")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    const group = document.getElementById(link.href.baseVal.slice(1));
    unfold(group, true);
    group.scrollIntoView({ block: "center" });
    group.querySelector(".unfold").focus({ preventScroll: true });
  });
}

groups.forEach((group) => unfold(group, false));
filter();

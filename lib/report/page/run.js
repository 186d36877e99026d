// One run, in a dialog. The fragment of the URL names it, so that a link opens it and Back closes it.

const dialog = document.getElementById("run");

const links = () => [...table.querySelectorAll("tbody:not([hidden]) a.run")];

function wanted() {
  try {
    return location.hash.startsWith("#run=") ? decodeURIComponent(location.hash.slice(5)) : null;
  } catch {
    return null; // a truncated URL
  }
}

function facts(pairs) {
  const list = pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
  return el("dl", { class: "facts" }, ...list);
}

function pairsTable(pairs, caption) {
  const rows = pairs.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, value)));
  return el("table", { class: "pairs" }, el("caption", { class: "unseen" }, caption), el("tbody", {}, ...rows));
}

// The figure of a setting, with the curves of the other runs pale.
function curves(setting, run) {
  const figure = document.getElementById(`curves-${setting}`).content.cloneNode(true);
  if (!figure.firstChild) return el("p", { class: "soft" }, "This setting has no metrics.");
  for (const line of figure.querySelectorAll("[id^=run-]")) {
    line.classList.toggle("pale", !line.id.startsWith(`run-${run}-`));
  }
  return figure;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Some browsers deny a page from a file the clipboard: use the old way.
    const field = el("textarea", { class: "unseen" });
    field.value = text;
    dialog.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

function commandLine(command) {
  const button = el("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    await copy(command);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return el("div", { class: "command" }, el("pre", {}, el("code", {}, command)), button);
}

function head(run, id) {
  const all = links();
  const at = all.findIndex((link) => link.dataset.run === id);
  const step = (by, text, label) => {
    const to = at < 0 ? null : all[at + by];
    const button = el("button", { type: "button", "aria-label": label, title: label, disabled: !to }, text);
    button.addEventListener("click", () => location.replace(to.href));
    return button;
  };
  const close = el("button", { type: "button", class: "close", "aria-label": "Close", title: "Close (Esc)" }, "✕");
  close.addEventListener("click", () => dialog.close());
  return el(
    "header",
    {},
    el("h2", { id: "run-title", tabindex: -1, autofocus: true }, run.name, el("span", { class: "seed" }, ` seed ${run.seed} `)),
    el("span", { class: `badge ${run.badge}` }, run.status),
    el("nav", { "aria-label": "Runs" }, step(-1, "‹", "Previous run"), step(1, "›", "Next run"), close),
  );
}

function show(run, id) {
  dialog.replaceChildren(
    head(run, id),
    el("p", { class: "soft folder" }, run.folder),
    facts(run.facts),
    el("h3", {}, "Curves"),
    curves(...run.curves),
    el("h3", {}, "Command"),
    run.command ? commandLine(run.command) : el("p", { class: "soft" }, "The record has none."),
    el("h3", {}, "Differs from the defaults"),
    pairsTable(run.settings, "Settings that differ from the defaults"),
    el("details", {}, el("summary", {}, "Whole configuration"), el("pre", {}, run.config ?? "There is no config.yaml.")),
    el("h3", {}, "Environment"),
    pairsTable(run.environment, "Environment"),
  );
  if (!dialog.open) dialog.showModal();
  dialog.querySelector("h2").focus();
  dialog.scrollTop = 0;
}

function follow() {
  const id = wanted();
  const run = id !== null && Object.hasOwn(data.runs, id) ? data.runs[id] : null;
  if (run) {
    const link = links().find((one) => one.dataset.run === id);
    if (link) unfold(link.closest("tbody"), true);
    show(run, id);
  } else if (dialog.open) dialog.close();
}

dialog.addEventListener("close", () => {
  const id = wanted();
  if (id !== null) history.replaceState(null, "", location.pathname + location.search);
  links().find((one) => one.dataset.run === id)?.focus();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close(); // outside of it
});
dialog.addEventListener("keydown", (event) => {
  const label = { ArrowLeft: "Previous run", ArrowRight: "Next run" }[event.key];
  if (label && !event.target.closest("pre")) dialog.querySelector(`[aria-label="${label}"]`).click();
});
window.addEventListener("hashchange", follow);
follow();

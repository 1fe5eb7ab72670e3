(() => {
  "use strict";
  const root = document.documentElement;
  root.classList.add("scripted");
  document.getElementById("theme").addEventListener("click", () => {
    const preferred = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    root.dataset.theme = (root.dataset.theme || preferred) === "dark" ? "light" : "dark";
  });

  const collator = new Intl.Collator("en", { numeric: true });
  const value = (row, column) => {
    const cell = row.cells[column];
    if (!cell.classList.contains("number")) return cell.textContent;
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  const compare = (a, b) => (typeof a === "number" ? a - b : collator.compare(a, b));

  for (const box of document.querySelectorAll(".layers")) {
    const body = box.querySelector("tbody");
    const rows = [...body.rows];
    const input = box.querySelector("input");
    const output = box.querySelector("output");
    const filter = () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        if (!row.hidden) shown += 1;
      }
      const all = `${rows.length} ${box.dataset.noun}`;
      output.textContent = shown === rows.length ? all : `${shown} of ${all}`;
    };
    input.addEventListener("input", filter);
    filter();

    const headers = [...box.querySelectorAll("thead th")];
    headers.forEach((header, column) => {
      const button = header.querySelector("button");
      if (!button) return;
      button.addEventListener("click", () => {
        const falling = header.getAttribute("aria-sort") === null
          ? header.classList.contains("number")
          : header.getAttribute("aria-sort") === "ascending";
        headers.forEach((other) => other.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", falling ? "descending" : "ascending");
        // Cells without a value stay last either way.
        const keyed = rows.map((row) => [value(row, column), row]);
        keyed.sort(([a], [b]) => {
          if (a === null || b === null) return (a === null) - (b === null);
          return falling ? compare(b, a) : compare(a, b);
        });
        body.append(...keyed.map(([, row]) => row));
      });
    });
  }
})();

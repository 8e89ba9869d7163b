"use strict";

// The names of the series hide and show what belongs to them in all figures.
for (const box of document.querySelectorAll("[data-series]")) {
  box.addEventListener("change", () => {
    for (const part of document.querySelectorAll(".series-" + box.dataset.series)) {
      part.style.display = box.checked ? "" : "none";
    }
  });
}

// The slider, or the pointer on a picture, moves the border between the truth and the fits.
for (const group of document.querySelectorAll(".pictures")) {
  const slider = group.querySelector("input[type=range]");
  if (!slider) continue;
  const move = (value) => group.style.setProperty("--cut", value + "%");
  slider.addEventListener("input", () => move(slider.value));
  for (const stack of group.querySelectorAll(".stack")) {
    stack.addEventListener("pointermove", (event) => {
      const box = stack.getBoundingClientRect();
      const share = (100 * (event.clientX - box.left)) / box.width;
      slider.value = Math.min(100, Math.max(0, share));
      move(slider.value);
    });
  }
}

// The heading of a column sorts the table by it.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th button").forEach((button, column) => {
    button.addEventListener("click", () => {
      const head = button.parentElement;
      const descending = head.getAttribute("aria-sort") !== "descending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const body = table.tBodies[0];
      const order = (a, b) => {
        const [left, right] = [Number(key(a)), Number(key(b))];
        const both = Number.isNaN(left) || Number.isNaN(right);
        return both ? String(key(a)).localeCompare(key(b)) : left - right;
      };
      const rows = [...body.rows].sort(order);
      body.append(...(descending ? rows.reverse() : rows));
    });
  });
}

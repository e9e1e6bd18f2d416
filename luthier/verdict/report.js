(function () {
  "use strict";
  var controls = document.getElementById("case-controls");
  var details = document.querySelectorAll("details.story");
  window.addEventListener("beforeprint", function () {
    details.forEach(function (part) { part.dataset.was = part.open ? "open" : ""; part.open = true; });
  });
  window.addEventListener("afterprint", function () {
    details.forEach(function (part) { part.open = part.dataset.was === "open"; });
  });
  if (!controls) { return; }
  var cases = Array.prototype.slice.call(document.querySelectorAll(".case"));
  var search = document.getElementById("case-search");
  var filter = document.getElementById("case-filter");
  var section = document.getElementById("examples");
  var more = document.getElementById("case-more");
  var byHand = false;
  var found = document.getElementById("case-found");
  var words = cases.map(function (item) { return item.textContent.toLowerCase(); });
  function show() {
    var query = search.value.trim().toLowerCase();
    var tag = filter.value;
    var shown = 0;
    var active = Boolean(query || tag);
    if (more) { more.open = active || byHand; }
    section.classList.toggle("filtered", active);
    cases.forEach(function (item, index) {
      var tags = " " + (item.dataset.tags || "") + " ";
      var fits = (!tag || tags.indexOf(" " + tag + " ") >= 0) &&
        (!query || words[index].indexOf(query) >= 0);
      item.hidden = !fits;
      if (fits) { shown += 1; }
    });
    found.textContent = active ? shown + " of " + cases.length + " match" : "";
  }
  if (more) {
    more.firstElementChild.addEventListener("click", function () { byHand = !more.open; });
  }
  search.addEventListener("input", show);
  filter.addEventListener("change", show);
  controls.hidden = false;
  show();
})();

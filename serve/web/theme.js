/** Light or dark, before the first paint: not a module, as those wait. Without a choice the system's decides. */
(() => {
  try {
    const theme = localStorage.getItem("theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // A browser may forbid storage; then the system decides.
  }
})();

/** The switch between light and dark colours. `theme.js` applies the choice before the page is drawn. */

import { byId } from "./dom.js";

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

/** Makes the switch work; whoever chooses what the system says follows the system again. */
export function setUpTheme() {
  const button = byId("theme");
  const tell = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    const chosen = isDark() ? "light" : "dark";
    if ((chosen === "dark") === system.matches) {
      delete root.dataset.theme;
      localStorage.removeItem("theme");
    } else {
      root.dataset.theme = chosen;
      localStorage.setItem("theme", chosen);
    }
    tell();
  });
  system.addEventListener("change", tell);
  tell();
}

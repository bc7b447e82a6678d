/** Styles and scripts that only some pages need, each loaded once. */

/** @type {Map<string, Promise<void>>} */
const loaded = new Map();

/** @param {string} href */
export function loadStyle(href) {
  return once(href, () => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = href;
    return link;
  });
}

/** A script that is no module: it leaves its name behind. @param {string} src */
export function loadScript(src) {
  return once(src, () => {
    const script = document.createElement("script");
    script.src = src;
    return script;
  });
}

/**
 * @param {string} url
 * @param {() => HTMLElement} element
 */
function once(url, element) {
  const known = loaded.get(url);
  if (known !== undefined) return known;
  const loading = new Promise((resolve, reject) => {
    const added = element();
    added.addEventListener("load", () => resolve(undefined));
    added.addEventListener("error", () => {
      loaded.delete(url);
      added.remove();
      reject(new Error("A part of this page could not be loaded. Is autocode still running?"));
    });
    document.head.append(added);
  });
  loaded.set(url, loading);
  return loading;
}

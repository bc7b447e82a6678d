/** Addresses: the path and query decide what is shown, links stay plain links. */
import { useEffect, useState } from "/vendor/htm-preact.js";

const MOVED = "autocode:moved";

/** The path and query shown, rendering again when they change. */
export function useAddress() {
  const [href, setHref] = useState(location.pathname + location.search);
  useEffect(() => {
    const read = () => setHref(location.pathname + location.search);
    addEventListener("popstate", read);
    addEventListener(MOVED, read);
    return () => {
      removeEventListener("popstate", read);
      removeEventListener(MOVED, read);
    };
  }, []);
  const [path = "/", search = ""] = href.split("?");
  return { path, search: new URLSearchParams(search) };
}

/**
 * @param {string} href
 * @param {{ isReplacing?: boolean }} [options] without a step in the browser's history
 */
export function navigate(href, { isReplacing = false } = {}) {
  if (isReplacing) history.replaceState(null, "", href);
  else history.pushState(null, "", href);
  dispatchEvent(new Event(MOVED));
}

/** Makes plain links of this origin move within the page; files and the API stay the browser's. */
export function followLinks() {
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = /** @type {Element} */ (event.target).closest?.("a[href]");
    if (!(link instanceof HTMLAnchorElement)) return;
    if (link.target !== "" || link.hasAttribute("download")) return;
    if (link.origin !== location.origin || link.pathname.startsWith("/api/")) return;
    if (link.hash !== "" && link.pathname === location.pathname) return;
    event.preventDefault();
    const isSameView = viewOf(link.pathname) === viewOf(location.pathname);
    navigate(link.pathname + link.search);
    if (!isSameView) scrollTo(0, 0);
  });
}

/**
 * `/trials/<id>` for each of its tabs: changing tabs keeps the place on the page.
 *
 * @param {string} path
 */
function viewOf(path) {
  return path.split("/").slice(0, 3).join("/");
}

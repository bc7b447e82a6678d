/** Whose account it is, in words: owners are paths of kinds and ids. Pure. */

/**
 * @param {string} owner "project/project_01j…", "day/project_01j…/2026-11-21", "trial/trial_01j…"
 * @param {{ id: string, name: string }} project whose statement it is
 * @returns {{ text: string, href: string | null }}
 */
export function ownerText(owner, project) {
  const [kind = "", id = "", ...rest] = owner.split("/");
  if (kind === "tokens") {
    const inner = ownerText([id, ...rest].join("/"), project);
    return { ...inner, text: `${inner.text}, tokens` };
  }
  const isOwn = id === project.id || id === project.name;
  switch (kind) {
    case "project":
      return { text: isOwn ? project.name : `project ${shortId(id)}`, href: null };
    case "trial":
      return { text: `trial …${shortId(id)}`, href: `/trials/${encodeURIComponent(id)}` };
    case "day":
      return { text: `day ${rest.join("/") || shortId(id)}`, href: null };
    case "organisation":
      return { text: "organisation", href: null };
    default:
      return { text: isOwn ? kind : owner, href: null };
  }
}

/** The end of an id, where two of a day differ. @param {string} id */
export function shortId(id) {
  return id.includes("_") ? id.slice(-6) : id;
}

/** The environment of every process of an allocation: these variables and no others. */
import type { Rooms } from "./rooms.ts";

/** What a child gets before its phase's own variables and the proxy's. */
export function childEnvironment(path: string, { home, tmp }: Pick<Rooms, "home" | "tmp">) {
  return {
    PATH: path,
    HOME: home,
    // The user may have no entry in the password file, where programs look when these are unset.
    USER: "agent",
    LOGNAME: "agent",
    TMPDIR: tmp,
    LANG: "C.UTF-8",
    XDG_CONFIG_HOME: `${home}/.config`,
    XDG_DATA_HOME: `${home}/.local/share`,
    XDG_STATE_HOME: `${home}/.local/state`,
    XDG_CACHE_HOME: `${home}/.cache`,
  };
}

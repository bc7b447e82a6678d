/** An agent could not be installed; the message is one line that says what to do about it. */
export class InstallError extends Error {
  override readonly name = "InstallError";
}

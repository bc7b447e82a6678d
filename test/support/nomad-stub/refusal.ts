/** How Nomad says no: plain text and a status, 500 unless something says otherwise. */
export class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;

  constructor(status: number, text: string) {
    super(text);
    this.status = status;
  }
}

/** nomad/structs/errors.go */
export const PERMISSION_DENIED = "Permission denied";
export const TOKEN_NOT_FOUND = "ACL token not found";
export const NO_LEADER = "No cluster leader";

export function buildTrajectory(..._: unknown[]): unknown {
  return {};
}

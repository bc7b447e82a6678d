import type { OpenEngine } from "../world.ts";

export function testClients(_name: string, _open: OpenEngine): void {}

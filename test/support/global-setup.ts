/**
 * Before and after a whole test run (`node --test --test-global-setup`): one PostgreSQL server,
 * which every test file finds through its environment.
 */
import { startTestServer, URL_VARIABLE } from "./server.ts";

let server: AsyncDisposable | null = null;

export async function globalSetup(): Promise<void> {
  const started = await startTestServer();
  process.env[URL_VARIABLE] = started.url;
  server = started;
}

export async function globalTeardown(): Promise<void> {
  await server?.[Symbol.asyncDispose]();
}

/** What counts as a test file: by the names that test runners look for themselves. Pure. */

const TEST_FOLDERS = new Set(["test", "tests", "__tests__", "spec", "specs", "__snapshots__"]);

const TEST_NAMES = [
  /[._-](test|tests|spec|e2e)\.[a-z0-9]+$/i, // widget.test.ts, widget_test.go, widget_spec.rb
  /^test[._-].+\.[a-z0-9]+$/i, // test_widget.py
  /^(test|tests|spec|conftest)\.[a-z0-9]+$/i, // test.js, conftest.py
  /(Test|Tests|TestCase|Spec|IT)\.(java|kt|scala|groovy|cs|swift|php)$/,
  /\.(test|spec)\.snap$/i,
  /\.snap(shot)?$/i,
];

/** Whether a path inside a repository (`/` between its parts) names a test. */
export function isTestFile(path: string): boolean {
  const parts = path.split("/");
  const name = parts.pop() ?? "";
  if (parts.some((part) => TEST_FOLDERS.has(part.toLowerCase()))) return true;
  return TEST_NAMES.some((pattern) => pattern.test(name));
}

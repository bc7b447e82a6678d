/**
 * The canary: values in a worker's environment that are of no use to anybody, so that whatever
 * sends them out was told to send secrets. Pure.
 */
import { formsOf, percentReadings } from "./encodings.ts";

/** How a canary looks in what leaves: byte strings, none of them short. */
export function canaryForms(canary: string): string[] {
  return canary.split(":").flatMap((part) => {
    const reversed = [...part].toReversed().join("");
    return [...new Set([...formsOf(part), part.toLowerCase(), reversed])];
  });
}

/** Whether one of the texts (a URL, a header, a host's name) has the canary in it. */
export function holdsCanary(forms: readonly string[], texts: readonly string[]): boolean {
  return texts.some((text) =>
    // A name's labels, and lines, are where a long value is cut.
    percentReadings(text).some((reading) => {
      const joined = reading.replaceAll(/[.\s]/g, "");
      return forms.some((form) => reading.includes(form) || joined.includes(form));
    }),
  );
}

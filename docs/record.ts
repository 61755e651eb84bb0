/**
 * Makes docs/recording.svg from a real run of the README's quick start: `deno task record`, as root
 * on Linux. tests/readme_test.ts fails where the program no longer prints what it shows.
 *
 * @module
 */
import { Audit, whyNoAudit } from "../tests/support/audit.ts";
import { COLUMNS, quickStart, type Scene } from "../tests/support/quick_start.ts";
import { whyNoWorld, World } from "../tests/support/world.ts";

const FILE = new URL("recording.svg", import.meta.url);

/** Rows of the terminal, and the size of a character in pixels. */
const ROWS = 30;
const [WIDTH, HEIGHT] = [8, 17];
const MARGIN = 12;

/** Seconds for which a command is shown alone, what it printed, and each screen of it before the last. */
const TYPED = 1;
const READ = 4;
const PAGE = 1;

/** Colours by what a terminal calls them: SGR parameters (ECMA-48, 8.3.117). */
const CLASSES: Readonly<Record<string, string>> = {
  "1": "bold",
  "2": "dim",
  "31": "red",
  "32": "green",
  "33": "yellow",
};

/** How long the screen stands still, with how many rows; what has just ended. */
interface Stop {
  readonly seconds: number;
  readonly rows: number;
  readonly command?: string;
}

/** A character with how it is painted. */
type Cell = readonly [character: string, style: string];

/** The recording as an image that scrolls from command to command, and then begins anew. */
export function svgOf(scenes: readonly Scene[]): string {
  const rows: Cell[][] = [];
  const stops: Stop[] = [];
  // What stands in for the agent itself is nothing to see.
  for (const { command, shown } of scenes.filter(({ command }) => !command.includes("./agent"))) {
    rows.push(...rowsOf(`\x1b[1m$ ${command}\x1b[22m`));
    stops.push({ seconds: TYPED, rows: rows.length });
    if (shown !== "") {
      const before = rows.length;
      rows.push(...rowsOf(shown.trimEnd()));
      for (let at = before + ROWS - 2; at < rows.length; at += ROWS - 2) {
        stops.push({ seconds: PAGE, rows: at });
      }
      stops.push({ seconds: READ, rows: rows.length, command });
    }
    rows.push([]);
  }
  const [width, height] = [COLUMNS * WIDTH + 2 * MARGIN, ROWS * HEIGHT + 2 * MARGIN];
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>fishnet firewall: the plan, the lock, what is refused, and the way back</title>`,
    `<style>${style(stops)}</style>`,
    `<rect width="${width}" height="${height}" rx="8" fill="#161b22"/>`,
    `<svg x="${MARGIN}" y="${MARGIN}" width="${COLUMNS * WIDTH}" height="${ROWS * HEIGHT}">`,
    `<g class="screen">`,
    ...rows.map((row, i) => textOf(row, (i + 1) * HEIGHT - 4)).filter((text) => text !== ""),
    `</g>`,
    `</svg>`,
    `</svg>`,
    "",
  ].join("\n");
}

/** The texts of such an image, as the terminal showed them. */
export function textsIn(svg: string): string[] {
  return [...svg.matchAll(/<text [^>]*>(.*)<\/text>/g)].map(([, inner]) =>
    inner!.replaceAll(/<[^>]*>/g, "").replaceAll("&lt;", "<").replaceAll("&gt;", ">")
      .replaceAll("&amp;", "&")
  );
}

/** Breaks lines where a terminal does: after the last column. */
function rowsOf(shown: string): Cell[][] {
  const rows: Cell[][] = [];
  let style = "";
  for (const line of shown.split("\n")) {
    let row: Cell[] = [];
    // deno-lint-ignore no-control-regex
    for (const [, sgr, character] of line.matchAll(/\x1b\[(\d*)m|(.)/gsu)) {
      if (character === undefined) style = CLASSES[sgr!] ?? "";
      else if (character === "\t") { do row.push([" ", style]); while (row.length % 8 !== 0); }
      else row.push([character, style]);
      if (row.length === COLUMNS) [row] = [[], rows.push(row)];
    }
    rows.push(row);
  }
  return rows;
}

function textOf(row: readonly Cell[], y: number): string {
  if (row.length === 0) return "";
  let text = "";
  for (let i = 0; i < row.length;) {
    const style = row[i]![1];
    let end = i;
    while (end < row.length && row[end]![1] === style) end++;
    const part = escaped(row.slice(i, end).map(([character]) => character).join(""));
    text += style === "" ? part : `<tspan class="${style}">${part}</tspan>`;
    i = end;
  }
  // A width of its own keeps columns straight in whatever font there is.
  return `<text y="${y}" textLength="${row.length * WIDTH}" xml:space="preserve">${text}</text>`;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** The screen stands still at each stop, with the last row that there is then at the bottom. */
function style(stops: readonly Stop[]): string {
  const total = stops.reduce((sum, { seconds }) => sum + seconds, 0);
  const shift = (rows: number) => `transform:translateY(${(ROWS - rows) * HEIGHT}px)`;
  let passed = 0;
  const frames = stops.map(({ seconds, rows }) => {
    const at = (passed / total * 100).toFixed(2);
    passed += seconds;
    return `${at}%{${shift(rows)}}`;
  });
  // Where nothing shall move, what was refused is shown.
  const still = stops.find(({ command }) => command?.includes(" verify ")) ?? stops.at(-1)!;
  return [
    `text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#c9d1d9}`,
    `.bold{font-weight:bold;fill:#fff}.dim{fill:#8b949e}.red{fill:#ff7b72}`,
    `.green{fill:#56d364}.yellow{fill:#e3b341}`,
    `.screen{${shift(still.rows)};animation:run ${total}s step-end infinite}`,
    `@media(prefers-reduced-motion){.screen{animation:none}}`,
    `@keyframes run{${frames.join("")}}`,
  ].join("");
}

if (import.meta.main) {
  const why = whyNoWorld() ?? whyNoAudit();
  if (why !== undefined) throw new Error(why);
  await using _audit = await Audit.begin();
  await using world = await World.create();
  await Deno.writeTextFile(FILE, svgOf(await quickStart(world, { log: true })));
}

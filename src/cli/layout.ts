/** Words in lines and columns, as wide as a terminal is. */

/** The columns of a terminal; undefined where there is none: then nothing is wrapped. */
export type Width = number | undefined;

// deno-lint-ignore no-control-regex -- colours have no width
const COLOUR = /\x1b\[\d+m/g;

/** How many columns a text takes. */
export const columnsOf = (text: string): number => text.replace(COLOUR, "").length;

/** A word; a command of this program is one, so that it can be copied. */
const WORD = /fishnet firewall [a-z]+(?: --?[a-z-]+(?: [^\s-][^\s;,)]*)?)*\S*|\S+/g;

/** Lines of at most `width` columns, but for a word that is longer; the later ones are indented. */
export function wrap(line: string, width: Width, indent = 0): string[] {
  if (width === undefined || columnsOf(line) <= width) return [line];
  const lines: string[] = [];
  const [first = "", ...words] = line.match(WORD) ?? [];
  let current = /^ */.exec(line)![0] + first;
  for (const word of words) {
    const longer = `${current} ${word}`;
    if (columnsOf(longer) <= width) current = longer;
    else {
      lines.push(current);
      current = " ".repeat(indent) + word;
    }
  }
  return eachColoured([...lines, current]);
}

/** A colour that goes on over several lines ends with each, so that it tints nothing beside it. */
function eachColoured(lines: readonly string[]): string[] {
  let open = "";
  return lines.map((line) => {
    const before = open;
    for (const code of line.match(COLOUR) ?? []) open = ENDS.includes(code) ? "" : code;
    return before + line + (open === "" ? "" : "\x1b[0m");
  });
}

/** What ends bold or dim, and what ends a colour (ECMA-48, SGR). */
const ENDS = ["\x1b[22m", "\x1b[39m"];

/** Narrower than this a column can't be read. */
const MIN_COLUMN = 14;

const GAP = "  ";

/**
 * Rows in columns, the lines of each row by themselves; the first is the header. Where it gets too
 * wide, the widest column is wrapped; at last each row becomes a block with a line for each column.
 */
export function table(rows: readonly (readonly string[])[], width: Width): string[][] {
  const widths = rows[0]!.map((_, i) => Math.max(...rows.map((row) => columnsOf(row[i]!))));
  const total = () => widths.reduce((sum, one) => sum + one + GAP.length, -GAP.length);
  while (width !== undefined && total() > width) {
    const widest = widths.indexOf(Math.max(...widths));
    if (widths[widest]! <= MIN_COLUMN) return blocks(rows, width);
    widths[widest]!--;
  }
  return rows.map((row) => {
    const cells = row.map((cell, i) =>
      wrap(cell, widths[i], GAP.length).flatMap((line) => cut(line, widths[i]!))
    );
    return Array.from(
      { length: Math.max(...cells.map(({ length }) => length)) },
      (_, line) => cells.map((cell, i) => pad(cell[line] ?? "", widths[i]!)).join(GAP).trimEnd(),
    );
  });
}

function blocks(rows: readonly (readonly string[])[], width: number): string[][] {
  const [header, ...others] = rows;
  const label = Math.max(...header!.slice(1).map(columnsOf)) + GAP.length;
  return [
    [],
    ...others.map(([first, ...rest]) => [
      ...wrap(first!, width, GAP.length),
      ...rest.flatMap((cell, i) =>
        wrap(GAP + pad(header![i + 1]!, label) + cell, width, GAP.length + label)
      ),
    ]),
  ];
}

const pad = (text: string, width: number) =>
  text + " ".repeat(Math.max(0, width - columnsOf(text)));

/** A word that is longer than its column goes on in the next line. */
function cut(line: string, width: number): string[] {
  return columnsOf(line) <= width ? [line] : line.match(new RegExp(`.{1,${width}}`, "g"))!;
}

/** Indents what a shell reads as commands; a line that begins inside quotes is part of a text. */
export function indented(command: string): string[] {
  const quotedOrEnd = /'[^']*'|"(?:\\[^]|[^"\\])*"|\\.|\n/g;
  const text = command.replace(quotedOrEnd, (found) => found === "\n" ? "\n  " : found);
  return `  ${text}`.split("\n");
}

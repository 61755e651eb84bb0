/** The schema that is published: what a minor version may add, and that nothing is left unnamed. */
import { assert, assertEquals } from "@std/assert";
import { Ajv2020 } from "ajv";
import { fishnet, ROOT } from "./support.ts";

const text = await Deno.readTextFile(`${ROOT}schema/fishnet-firewall.schema.json`);
const validate = new Ajv2020({ allErrors: true }).compile(JSON.parse(text));

/** The same schema for one who wants no property but those that it names. */
const strict = new Ajv2020({ allErrors: true }).compile(
  JSON.parse(text.replaceAll('"additionalProperties": true', '"additionalProperties": false')),
);

/** Documents of every kind that need no machine. */
async function documents(): Promise<unknown[]> {
  const enable = ["firewall", "enable", "--json"];
  return await Promise.all([
    [...enable, "--agent-user", "a"],
    [...enable, "--agent-user", "a", "--backend", "nftables"],
    [...enable, "--agent-user", "a", "--os", "macos"],
    ["firewall", "disable", "--json", "--agent-user", "a"],
    [...enable, "--agent-user", "1"],
  ].map(async (args) => JSON.parse((await fishnet(...args)).stdout)));
}

/** A copy with a property that no version has yet, in every object of it. */
function extended(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(extended);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => [key, extended(inner)]);
  return { ...Object.fromEntries(entries), ofALaterVersion: ["anything"] };
}

Deno.test("a document of a later minor version is valid, with a new property in every object", async () => {
  for (const document of await documents()) {
    const later = { ...extended(document) as object, formatVersion: "1.99" };
    assert(validate(later), JSON.stringify(validate.errors));
    assert(!strict(later), "the control refuses it");
  }
});

Deno.test("a document of another major version is refused", async () => {
  for (const document of await documents()) {
    assert(!validate({ ...document as object, formatVersion: "2.0" }));
  }
});

Deno.test("the schema names every property that the program prints", async () => {
  for (const document of await documents()) {
    strict(document);
    assertEquals(strict.errors ?? [], []);
  }
});

Deno.test("no object of the schema is closed, or says nothing about it", () => {
  const look = (value: unknown, path: string) => {
    if (typeof value !== "object" || value === null) return;
    if (!Array.isArray(value) && "properties" in value && "type" in value) {
      assertEquals((value as Record<string, unknown>).additionalProperties, true, path);
    }
    for (const [key, inner] of Object.entries(value)) look(inner, `${path}/${key}`);
  };
  look(JSON.parse(text), "");
});

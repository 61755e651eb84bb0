/** @module Validates documents against a JSON schema. */
export { Ajv2020 } from "npm:ajv@8.17.1/dist/2020.js";

/** @module Makes up inputs, and looks for the smallest that breaks a property. */
export * from "npm:fast-check@4.3.0";
export { default } from "npm:fast-check@4.3.0";

import assert from "node:assert/strict";
import { test } from "node:test";

import { refusal } from "../src/plane/errors.ts";

test("a refusal is told by its detail, by its title without one, and by its status if it is no problem at all", () => {
  assert.equal(refusal('{"title": "Too Large", "detail": "at most 2 GiB"}', 413), "at most 2 GiB");
  assert.equal(refusal('{"title": "Too Large"}', 413), "Too Large");
  for (const body of ["<html>", "", "null", "{}"]) assert.equal(refusal(body, 502), "The gateway answered 502.");
});

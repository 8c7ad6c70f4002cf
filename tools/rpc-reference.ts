// SPDX-License-Identifier: MIT
// Writes docs/rpc.md from the schema of the control socket's methods.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { renderReference } from "../src/engine/control/reference.ts";

const page = fileURLToPath(new URL("../docs/rpc.md", import.meta.url));
writeFileSync(page, renderReference());

// SPDX-License-Identifier: MIT
// Writes docs/scsi.md from the opcode table of the SCSI command set.
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { renderScsiReference } from "../src/engine/scsi/reference.ts";

const page = fileURLToPath(new URL("../docs/scsi.md", import.meta.url));
writeFileSync(page, renderScsiReference());

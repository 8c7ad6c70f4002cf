// SPDX-License-Identifier: MIT
import process from "node:process";

/** Whether tests are to take their time: `make soak`. */
export const SOAK = process.env.VHC_SOAK === "1";

// SPDX-License-Identifier: MIT
import { test } from "node:test";
import { SOAK } from "../support/soak.ts";
import { crashes } from "./crash.ts";

const KILLS = SOAK ? 200 : 3;

for (const format of ["split", "packed"] as const)
	test(`${KILLS} kills under fio, ${format} rings`, () =>
		crashes(format, KILLS));

// SPDX-License-Identifier: MIT
import { test } from "node:test";
import { SOAK } from "../support/soak.ts";
import { crashes } from "./crash.ts";

const KILLS = SOAK ? 200 : 3;

test(`${KILLS} kills under fio, split and packed rings, restarted from the state file`, () =>
	crashes(KILLS));

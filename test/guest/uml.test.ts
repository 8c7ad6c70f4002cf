// SPDX-License-Identifier: MIT
import { playScenes } from "./play.ts";

playScenes("uml");

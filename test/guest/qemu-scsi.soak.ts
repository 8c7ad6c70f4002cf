// SPDX-License-Identifier: MIT
import { play } from "./play.ts";

play("qemu", "scsi");

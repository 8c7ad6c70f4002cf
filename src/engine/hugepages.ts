// SPDX-License-Identifier: MIT
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Reserved hugepages of one size on one NUMA node. */
export interface HugepagePool {
	/** NUMA node; -1 where the kernel knows no nodes. */
	node: number;
	/** Bytes a page. */
	pageSize: number;
	/** Pages reserved, and those of them that nobody uses. */
	total: number;
	free: number;
}

function list(folder: string): string[] {
	try {
		return readdirSync(folder);
	} catch {
		return []; // no such folder: the kernel lacks the feature
	}
}

function readCount(file: string): number {
	return Number(readFileSync(file, "utf8").trim());
}

function poolsIn(folder: string, node: number): HugepagePool[] {
	return list(folder).flatMap((name) => {
		const kib = /^hugepages-(\d+)kB$/.exec(name)?.[1];
		if (kib === undefined) return [];
		return {
			node,
			pageSize: Number(kib) * 1024,
			total: readCount(join(folder, name, "nr_hugepages")),
			free: readCount(join(folder, name, "free_hugepages")),
		};
	});
}

/**
 * What hugepages there are, by node and then by size. `sys` is where sysfs is mounted.
 * An empty list: this kernel has none.
 */
export function hugepagePools(sys = "/sys"): HugepagePool[] {
	const nodes = join(sys, "devices/system/node");
	const pools = list(nodes).flatMap((name) => {
		const node = /^node(\d+)$/.exec(name)?.[1];
		if (node === undefined) return [];
		return poolsIn(join(nodes, name, "hugepages"), Number(node));
	});
	const found =
		pools.length > 0 ? pools : poolsIn(join(sys, "kernel/mm/hugepages"), -1);
	return found.sort((a, b) => a.node - b.node || a.pageSize - b.pageSize);
}

/** The page sizes of the kernel's hugepages, in bytes. */
export function hugepageSizes(sys = "/sys"): number[] {
	return [...new Set(hugepagePools(sys).map((pool) => pool.pageSize))];
}

// SPDX-License-Identifier: MIT
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { test } from "node:test";
import { projectPath } from "../support/instance.ts";

const root = projectPath("src");

/**
 * Module paths below src, and what each imports: modules below src, or packages. `erased`
 * leaves out what is imported for its types alone, and so not at all when the program runs.
 */
function readGraph(erased = false): Map<string, string[]> {
	const files = readdirSync(root, { recursive: true, encoding: "utf8" });
	return new Map(
		files
			.filter((file) => file.endsWith(".ts"))
			.map((file) => [file, importsOf(file, erased)]),
	);
}

function importsOf(file: string, erased: boolean): string[] {
	const code = readFileSync(join(root, file), "utf8").replace(
		/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm,
		"",
	);
	const types = /^(?:import|export) type [^"]*"[^"]+"/gm;
	const text = erased ? code.replace(types, "") : code;
	// import … from "x", export … from "x", import "x", import("x"), require("x")
	const pattern =
		/(?:\bfrom\s+|\bimport\s*\(?\s*|[Rr]equire(?:\([^()]*\))?\(\s*)"([^"]+)"/g;
	return [...text.matchAll(pattern)].map(([, name = ""]) =>
		name.startsWith(".")
			? relative(root, join(root, dirname(file), name))
			: name,
	);
}

const graph = readGraph();
const inside = (folder: string) => (file: string) =>
	file.startsWith(`${folder}/`);

/** Fails if a module of `from` imports one of `to`. */
function forbid(
	from: (file: string) => boolean,
	to: (file: string) => boolean,
	rule: string,
): void {
	for (const [file, imports] of graph)
		if (from(file))
			for (const each of imports)
				assert(!to(each), `${file} imports ${each}: ${rule}`);
}

test("the graph is read: it has modules, edges and packages", () => {
	assert(graph.size > 20);
	const session = graph.get("engine/vhost-user/session.ts");
	assert(session?.includes("engine/vhost-user/answer.ts"));
	assert(graph.get("ffi/library.ts")?.includes("ffi-rs"));
});

test("every import of ours names a file that is there", () => {
	for (const [file, imports] of graph)
		for (const each of imports.filter((name) => /\.[jt]s$/.test(name)))
			assert(graph.has(each), `${file} imports ${each}`);
});

test("imports go one way: cli, engine, ffi", () => {
	forbid(inside("ffi"), inside("engine"), "ffi knows nothing above it");
	forbid(inside("ffi"), inside("cli"), "ffi knows nothing above it");
	forbid(inside("engine"), inside("cli"), "the engine knows no command line");
	forbid(inside("cli"), inside("ffi"), "the command line goes by the engine");
});

test("only src/ffi knows ffi-rs", () => {
	forbid(
		(file) => !inside("ffi")(file),
		(name) => name === "ffi-rs",
		"ffi",
	);
});

test("src/ffi/native.ts has all that is made of it", () => {
	forbid(
		(file) => !inside("ffi")(file),
		inside("ffi/native"),
		"one way in is enough",
	);
});

test("inside the engine: control, then engine.ts, then the rest", () => {
	const control = inside("engine/control");
	const rest = (file: string) => inside("engine")(file) && !control(file);
	forbid(rest, control, "nothing below control knows it");
	const facade = (file: string) => file === "engine/engine.ts";
	forbid(
		(file) => /^engine\/(vhost-user|virtio|virtio-scsi|bdev|scsi)\//.test(file),
		facade,
		"what engine.ts is made of does not know it",
	);
});

test("the message codec knows no connection", () => {
	const codec = (file: string) =>
		/vhost-user\/(codec|messages)\.ts$/.test(file);
	const allowed = (name: string) =>
		codec(name) || name === "engine/errors.ts" || name === "node:buffer";
	forbid(codec, (name) => !allowed(name), "the codec is pure");
});

test("the SCSI commands know nothing but themselves", () => {
	const scsi = inside("engine/scsi");
	const allowed = (name: string) => scsi(name) || name.startsWith("node:");
	forbid(scsi, (name) => !allowed(name), "they are a library of their own");
});

test("virtio knows neither vhost-user nor the library; a client opens no library", () => {
	forbid(inside("engine/virtio"), inside("ffi"), "it is data");
	forbid(inside("engine/virtio"), inside("engine/vhost-user"), "it is data");
	const reached = new Set(["engine/control/client.ts", "engine/errors.ts"]);
	for (const file of reached)
		for (const each of graph.get(file) ?? []) reached.add(each);
	for (const file of reached) assert(!inside("ffi")(file), `client: ${file}`);
});

test("no cycles", () => {
	const graph = readGraph(true);
	const done = new Set<string>();
	const visit = (file: string, path: string[]): void => {
		assert(!path.includes(file), [...path, file].join(" -> "));
		if (done.has(file)) return;
		for (const each of graph.get(file) ?? []) visit(each, [...path, file]);
		done.add(file);
	};
	for (const file of graph.keys()) visit(file, []);
});

// SPDX-License-Identifier: MIT
import { Buffer } from "node:buffer";
import { Tokenizer, TokenParser, TokenType } from "@streamparser/json";

/** What one JSON value may cost before its sender is cut off. */
export interface FramingLimits {
	/** Bytes of one value, with the white space around it. */
	maxBytes: number;
	/** Arrays and objects inside each other. */
	maxDepth: number;
}

/** The limits of a request on the control socket. */
export const REQUEST_LIMITS: FramingLimits = {
	maxBytes: 1024 * 1024,
	maxDepth: 32,
};

/** Bytes go in; whole JSON values come out. */
export interface Framer {
	/** Takes the next bytes, which must stay as they are. Throws on broken JSON and beyond a limit; not usable after that. */
	write(chunk: Uint8Array): void;
	/** True if no value has been begun and left open. */
	readonly idle: boolean;
}

/**
 * Makes a framer for JSON values that follow each other with nothing, or white
 * space, between them. `onValue` gets each as soon as its last byte is there.
 */
export function createFramer(
	limits: FramingLimits,
	onValue: (value: unknown) => void,
): Framer {
	const tokenizer = new Tokenizer({ separator: "" });
	const parser = new TokenParser({ separator: "", paths: ["$"] });
	let depth = 0;
	let received = 0;
	let consumed = 0;
	let open = false;
	/** Where the value began, and the chunks since then, the first of which begins at heldFrom. */
	let start = 0;
	let held: Uint8Array[] = [];
	let heldFrom = 0;

	tokenizer.onToken = (token) => {
		if (
			token.token === TokenType.LEFT_BRACE ||
			token.token === TokenType.LEFT_BRACKET
		) {
			depth++;
			if (depth > limits.maxDepth) {
				throw new Error(`nested deeper than ${limits.maxDepth}`);
			}
		} else if (
			token.token === TokenType.RIGHT_BRACE ||
			token.token === TokenType.RIGHT_BRACKET
		) {
			depth--;
		}
		if (!open) start = token.offset;
		open = true;
		if (depth === 0) consumed = token.offset;
		parser.write(token);
	};
	parser.onValue = ({ value }) => {
		open = false;
		onValue(typeof value === "object" && value !== null ? parse() : value);
	};
	// The tokenizer says where a value ends, and what is broken as soon as it comes; but it takes
	// U+FEFF in front of a string for a byte order mark, and loses it.
	const parse = (): unknown => {
		const [only, ...more] = held;
		const bytes = only && more.length === 0 ? only : Buffer.concat(held);
		const end = consumed + 1 - heldFrom;
		const value = bytes.subarray(start - heldFrom, end);
		held = [bytes.subarray(end)];
		heldFrom = consumed + 1;
		return JSON.parse(Buffer.from(value).toString());
	};

	return {
		write(chunk) {
			held.push(chunk);
			received += chunk.length;
			tokenizer.write(chunk);
			if (!open) {
				held = [];
				heldFrom = received;
			}
			if (received - consumed > limits.maxBytes) {
				throw new Error(`longer than ${limits.maxBytes} bytes`);
			}
		},
		get idle() {
			return !open;
		},
	};
}

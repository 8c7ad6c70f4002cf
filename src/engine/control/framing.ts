// SPDX-License-Identifier: MIT
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
	/** Takes the next bytes. Throws on broken JSON and beyond a limit; not usable after that. */
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
		open = true;
		if (depth === 0) consumed = token.offset;
		parser.write(token);
	};
	parser.onValue = ({ value }) => {
		open = false;
		onValue(value);
	};

	return {
		write(chunk) {
			received += chunk.length;
			tokenizer.write(chunk);
			if (received - consumed > limits.maxBytes) {
				throw new Error(`longer than ${limits.maxBytes} bytes`);
			}
		},
		get idle() {
			return !open;
		},
	};
}

// SPDX-License-Identifier: MIT
/** Curves in one line of text. */

const LEVELS = [..."▁▂▃▄▅▆▇█"];

/**
 * The last values in `width` characters, the newest one last: of several that share a character the
 * greatest. `top` is the full height; default: the greatest of them. What is not known yet is blank.
 */
export function sparkline(
	values: readonly number[],
	width: number,
	length: number,
	top = Math.max(0, ...values),
): string {
	const share = Math.ceil(length / width);
	const shown: string[] = [];
	// From the end, so that each value moves at a steady pace; the last character may have fewer.
	for (let end = values.length; end > 0 && shown.length < width; end -= share) {
		const part = values.slice(Math.max(0, end - share), end);
		const height = top > 0 ? Math.min(1, Math.max(...part) / top) : 0;
		shown.unshift(LEVELS[Math.round(height * (LEVELS.length - 1))] ?? "");
	}
	return shown.join("").padStart(width);
}

// SPDX-License-Identifier: MIT
// What the front end's IOMMU shows the device of guest memory, as far as the front end has told
// (vhost-user, "IOMMU support"). Rings translate by views of it, which never change while in use.
import { native, type Piece } from "../../ffi/native.ts";

export interface Iotlb {
	/** struct vhc_mem * for rings to use: a view of what is known now. */
	view(): bigint;
	/** Throws NativeError: EINVAL, EFAULT (not in guest memory), ENOSPC (clear it first). */
	show(piece: Piece): void;
	/** Whether any of it is known. */
	knows(iova: bigint, size: bigint): boolean;
	hide(iova: bigint, size: bigint): void;
	/** Forgets all. No ring may be running. */
	clear(): void;
	/** The first address of a range that is not known, or not for that access. */
	gap(iova: bigint, size: bigint, access: number): bigint | undefined;
	/** The user address behind one. */
	userAddr(iova: bigint): bigint | undefined;
	release(): void;
}

/** Most pieces that are kept; less than VHC_MEM_MAX_PIECES, since one may cross regions. */
const MAX_ENTRIES = 32768;

const end = ({ iova, size }: Pick<Piece, "iova" | "size">) => iova + size;

/** What is left of a piece without a range that it overlaps: nothing, or one or two pieces. */
function without(piece: Piece, iova: bigint, size: bigint): Piece[] {
	const cut = iova + size;
	const left: Piece[] = [];
	if (piece.iova < iova) left.push({ ...piece, size: iova - piece.iova });
	if (cut < end(piece))
		left.push({
			...piece,
			iova: cut,
			size: end(piece) - cut,
			userAddr: piece.userAddr + (cut - piece.iova),
		});
	return left;
}

/** Pieces that do not overlap, in order. */
class Pieces {
	private list: Piece[] = [];

	get count(): number {
		return this.list.length;
	}

	/** The place of the first one that ends after an address. */
	private after(iova: bigint): number {
		let low = 0;
		let high = this.list.length;
		while (low < high) {
			const middle = (low + high) >>> 1;
			const piece = this.list[middle];
			if (piece && end(piece) <= iova) low = middle + 1;
			else high = middle;
		}
		return low;
	}

	/** The one that has an address. */
	at(iova: bigint): Piece | undefined {
		const piece = this.list[this.after(iova)];
		return piece && piece.iova <= iova ? piece : undefined;
	}

	overlaps(iova: bigint, size: bigint): boolean {
		const piece = this.list[this.after(iova)];
		return piece !== undefined && piece.iova < iova + size;
	}

	/** Puts pieces, perhaps none, in the place of what is in a range. */
	replace(iova: bigint, size: bigint, pieces: readonly Piece[]): void {
		const first = this.after(iova);
		let last = first;
		const kept: Piece[] = [];
		for (; last < this.list.length; last++) {
			const piece = this.list[last];
			if (!piece || piece.iova >= iova + size) break;
			kept.push(...without(piece, iova, size));
		}
		const all = [...kept, ...pieces];
		all.sort((a, b) => (a.iova < b.iova ? -1 : 1));
		this.list.splice(first, last - first, ...all);
	}

	clear(): void {
		this.list = [];
	}
}

/** Makes one for a table (struct vhc_mem *), of which nothing is shown yet. */
export function createIotlb(table: bigint): Iotlb {
	const pieces = new Pieces();
	let handle = native.memCreateView(table);
	let given = false;

	/** A view may be changed until a ring has it. */
	const renew = (make: () => bigint): void => {
		const next = make();
		native.memRelease(handle);
		handle = next;
		given = false;
	};
	const change = (work: () => unknown): void => {
		if (given) renew(() => native.memClone(handle));
		work();
	};

	return {
		view() {
			given = true;
			return handle;
		},
		show(piece) {
			if (pieces.count >= MAX_ENTRIES)
				throw new RangeError("the IOTLB is full");
			change(() => native.memShow(handle, piece));
			pieces.replace(piece.iova, piece.size, [piece]);
		},
		knows: (iova, size) => pieces.overlaps(iova, size),
		hide(iova, size) {
			change(() => native.memHide(handle, iova, size));
			pieces.replace(iova, size, []);
		},
		clear() {
			renew(() => native.memCreateView(table));
			pieces.clear();
		},
		gap(iova, size, access) {
			let at = iova;
			while (at < iova + size) {
				const piece = pieces.at(at);
				if (!piece || (piece.access & access) !== access) return at;
				at = end(piece);
			}
			return undefined;
		},
		userAddr(iova) {
			const piece = pieces.at(iova);
			return piece && piece.userAddr + (iova - piece.iova);
		},
		release: () => native.memRelease(handle),
	};
}

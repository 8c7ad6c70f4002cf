// SPDX-License-Identifier: MIT
// What an engine is started with, and what is asked of it.
import type { Logger } from "./log.ts";
import type { ReactorMode } from "./reactors.ts";

export interface EngineOptions {
	/** Where controllers' sockets are made; made itself (mode 0700) if missing. */
	socketDir: string;
	/** Processors to run a reactor on. Default: the first that this process may use. */
	cpus?: readonly number[] | undefined;
	/** Default: adaptive. */
	mode?: ReactorMode | undefined;
	/**
	 * Where what must survive a restart is kept (persistent reservations); made
	 * itself (mode 0700) if missing. Default: nothing is kept.
	 */
	stateDir?: string | undefined;
	/**
	 * Offers post-copy migration. A front end that asks for it can make a reactor
	 * wait for a page for ever. Default: false.
	 */
	postcopy?: boolean | undefined;
	/** Default: silence. */
	log?: Logger | undefined;
}

/** What controllers of both kinds may be given. */
export interface ControllerOptions {
	/** Name of the controller and, if it listens, of its socket's file. */
	name: string;
	/** Processors whose reactors serve it. Default: all. */
	cpus?: readonly number[] | undefined;
	/**
	 * Path of a front end's socket: the controller connects to it whenever it is
	 * there, instead of listening at one of its own.
	 */
	client?: string | undefined;
	/** Packed virtqueues are offered. Default: true. */
	packed?: boolean | undefined;
	/** An IOMMU (VIRTIO_F_ACCESS_PLATFORM) is offered. Default: false. */
	iommu?: boolean | undefined;
	/** Notifications by messages (INBAND_NOTIFICATIONS) are offered. Default: false. */
	inband?: boolean | undefined;
}

export interface BlkControllerRequest extends ControllerOptions {
	/** Name or UUID of the bdev. */
	bdev: string;
	/** Default: false, unless the bdev cannot be written. */
	readonly?: boolean | undefined;
}

export interface ScsiControllerRequest extends ControllerOptions {
	/** No front end can come before startController. Default: false. */
	delay?: boolean | undefined;
}

export interface ScsiLunRequest {
	/** The controller. */
	name: string;
	/** 0..255, or -1: the first without any LUN. */
	target: number;
	/** 0..255. Default: 0. */
	lun?: number | undefined;
	/** Name or UUID of the bdev. */
	bdev: string;
}

// SPDX-License-Identifier: MIT
// Configurations with the structure of what SPDK's save_config prints.

/** As spdk_tgt of a current SPDK has it: every subsystem, with the settings that it always prints. */
export function spdkTarget(file: string): string {
	return `{
  "subsystems": [
    { "subsystem": "scheduler", "config": [
      { "method": "framework_set_scheduler", "params": { "name": "static", "isolated_core_mask": "0x0" } } ] },
    { "subsystem": "vmd", "config": [] },
    { "subsystem": "iobuf", "config": [
      { "method": "iobuf_set_options", "params": {
          "small_pool_count": 8192, "large_pool_count": 1024,
          "small_bufsize": 8192, "large_bufsize": 135168, "enable_numa": false } } ] },
    { "subsystem": "keyring", "config": [] },
    { "subsystem": "sock", "config": [
      { "method": "sock_set_default_impl", "params": { "impl_name": "posix" } },
      { "method": "sock_impl_set_options", "params": {
          "impl_name": "posix", "recv_buf_size": 2097152, "send_buf_size": 2097152,
          "enable_recv_pipe": true, "enable_zerocopy_send_server": true } } ] },
    { "subsystem": "accel", "config": [
      { "method": "accel_set_options", "params": {
          "small_cache_size": 128, "large_cache_size": 16, "task_count": 2048 } } ] },
    { "subsystem": "bdev", "config": [
      { "method": "bdev_set_options", "params": {
          "bdev_io_pool_size": 65535, "bdev_io_cache_size": 256, "bdev_auto_examine": true,
          "iobuf_small_cache_size": 128, "iobuf_large_cache_size": 16 } },
      { "method": "bdev_raid_set_options", "params": { "process_window_size_kb": 1024 } },
      { "method": "bdev_iscsi_set_options", "params": { "timeout_sec": 30 } },
      { "method": "bdev_nvme_set_options", "params": { "action_on_timeout": "none" } },
      { "method": "bdev_nvme_set_hotplug", "params": { "period_us": 100000, "enable": false } },
      [ { "method": "bdev_malloc_create", "params": {
          "name": "Malloc0", "num_blocks": 32768, "block_size": 512, "physical_block_size": 512,
          "uuid": "9a2cd8ee-5f35-4c3e-90fb-6ecd0c2ae3a1", "optimal_io_boundary": 0, "md_size": 0,
          "dif_type": 0, "dif_is_head_of_md": false, "dif_pi_format": 0, "numa_id": -1 } } ],
      { "method": "bdev_aio_create", "params": {
          "name": "aio0", "block_size": 4096, "filename": ${JSON.stringify(file)},
          "readonly": false, "fallocate": false,
          "uuid": "1f0be1cf-3d16-4a44-a8bd-e3d4de4c3b2c", "nowait": false } },
      { "method": "bdev_wait_for_examine" } ] },
    { "subsystem": "scsi", "config": null },
    { "subsystem": "vhost_scsi", "config": [
      { "method": "vhost_create_scsi_controller", "params": {
          "ctrlr": "vhost.1", "cpumask": "1", "delay": true } },
      { "method": "vhost_scsi_controller_add_target", "params": {
          "ctrlr": "vhost.1", "scsi_target_num": 2, "bdev_name": "aio0" } },
      { "method": "vhost_start_scsi_controller", "params": { "ctrlr": "vhost.1" } } ] },
    { "subsystem": "vhost_blk", "config": [
      { "method": "vhost_create_blk_controller", "params": {
          "ctrlr": "vhost.0", "dev_name": "Malloc0", "cpumask": "1",
          "readonly": false, "transport": "vhost_user_blk" } } ] },
    { "subsystem": "ublk", "config": [] },
    { "subsystem": "nbd", "config": [] },
    { "subsystem": "nvmf", "config": [
      { "method": "nvmf_set_config", "params": { "discovery_filter": "match_any", "admin_cmd_passthru": { "identify_ctrlr": false } } },
      { "method": "nvmf_set_max_subsystems", "params": { "max_subsystems": 1024 } },
      { "method": "nvmf_set_crdt", "params": { "crdt1": 0, "crdt2": 0, "crdt3": 0 } } ] },
    { "subsystem": "iscsi", "config": [
      { "method": "iscsi_set_options", "params": { "node_base": "iqn.2016-06.io.spdk", "max_sessions": 128 } } ] }
  ]
}
`;
}

/** As people write them, with comments; most of it is what vhostctl does not have. */
export const SPDK_NVMF = `{
  // An NVMe-oF target that also serves a virtual machine.
  "subsystems": [
    { "subsystem": "bdev", "config": [
      { "method": "bdev_null_create", "params": { "name": "Null0", "num_blocks": 2048, "block_size": 512 } },
      { "method": "bdev_nvme_attach_controller", "params": {
          "name": "Nvme0", "trtype": "PCIe", "traddr": "0000:5e:00.0" } },
      { "method": "bdev_raid_create", "params": {
          "name": "Raid0", "raid_level": "raid0", "strip_size_kb": 64, "base_bdevs": ["Nvme0n1", "Null0"] } } ] },
    { "subsystem": "nvmf", "config": [
      /* as in the documentation */
      { "method": "nvmf_create_transport", "params": { "trtype": "TCP" } },
      { "method": "nvmf_create_subsystem", "params": { "nqn": "nqn.2016-06.io.spdk:cnode1" } } ] }
  ]
}
`;

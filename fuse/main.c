/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main - picks the sub-command, or is mount.pxarfs by name; a command of another folder is
 * added to the table here.
 */
#include "client/cmd/cmd.h"
#include "fuse/cmd_mount.h"

static const struct cmd *const commands[] = {
	&cmd_init,
	&cmd_backup,
	&cmd_snapshots,
	&cmd_files,
	&cmd_forget,
	&cmd_notes,
	&cmd_protect,
	&cmd_upload_log,
	&cmd_namespaces,
	&cmd_status,
	&cmd_mount,
	&cmd_ls,
	&cmd_list,
	&cmd_key,
	&cmd_create,
	NULL,
};

int main(int argc, char **argv)
{
	if (argc > 0 && cmd_mount_is_helper(argv[0]))
		return cmd_mount_helper(argc, argv);
	return cmd_main(commands, argc, argv);
}

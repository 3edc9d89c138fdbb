/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main - picks the sub-command, or is mount.pxarfs by name; a command of another folder is
 * added to the table here.
 */
#include "client/cmd/cmd.h"
#include "fuse/cmd_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

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

/* Whoever calls us may have closed them.  What is opened next would take their numbers, and what is
 * printed or logged would be written into it.  So that it fails as before they cannot be used. */
static void occupy_standard_files(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
			_exit(EXIT_FAILED);
}

int main(int argc, char **argv)
{
	occupy_standard_files();
	if (argc > 0 && cmd_mount_is_helper(argv[0]))
		return cmd_mount_helper(argc, argv);
	return cmd_main(commands, argc, argv);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * main - picks the sub-command; a command of another folder is added to the table here.
 */
#include "client/cmd/cmd.h"

static const struct cmd *const commands[] = {
	&cmd_backup,
	&cmd_ls,
	&cmd_list,
	&cmd_key,
	&cmd_create,
	NULL,
};

int main(int argc, char **argv)
{
	return cmd_main(commands, argc, argv);
}

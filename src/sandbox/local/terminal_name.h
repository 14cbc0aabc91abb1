#pragma once

#include <string>

namespace caisson::sandbox::local {

// "pts/3" for a terminal's device number (proc_pid_stat(5), tty_nr), "?" for none, as ps(1) has it.
std::string terminal_name(int number);

}  // namespace caisson::sandbox::local

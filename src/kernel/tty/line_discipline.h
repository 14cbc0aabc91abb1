// LineDiscipline: what lies between the two ends of a terminal (termios(3), N_TTY): echo, erasing, lines, signals by key, output
// processing. It knows neither tasks nor files: who owns it (Terminal) locks it and does what Effects says.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace caisson::kernel {

// The kernel's struct termios and, with speeds, termios2 (include/uapi/asm-generic/termbits.h). The C library's differ.
struct TerminalSettings {
  uint32_t input = 0, output = 0, control = 0, local = 0;  // c_iflag, c_oflag, c_cflag, c_lflag
  uint8_t line = 0;
  std::array<uint8_t, 19> keys{};  // c_cc
  uint32_t input_speed = 0, output_speed = 0;

  // ICRNL IXON OPOST ONLCR ISIG ICANON ECHO..., 38400 baud, the usual keys.
  static TerminalSettings usual();
  bool operator==(const TerminalSettings&) const = default;
};
static_assert(sizeof(TerminalSettings) == 44);
inline constexpr size_t kTermiosSize = 36;  // without the speeds

// What an operation has caused.
struct Effects {
  std::string signals;        // numbers of signals for the foreground process group, in order
  bool output = false;        // there is output to be taken, or it may go on
  bool input = false;         // there is input to be read
  bool room = false;          // there is room for more input
  uint8_t packet_status = 0;  // TIOCPKT_* that a master in packet mode is told
};

class LineDiscipline {
 public:
  static constexpr size_t kMostInput = 4096;    // N_TTY_BUF_SIZE
  static constexpr size_t kMostOutput = 65536;  // what writers may have waiting

  const TerminalSettings& settings() const { return settings_; }
  void set_settings(const TerminalSettings& settings, Effects& effects);

  // Typed at the other end: takes as many bytes as there is room for; returns how many.
  size_t input(std::string_view bytes, Effects& effects);
  // How many bytes input() takes now for certain.
  size_t input_room() const;
  // How many bytes a read gives now. A line that is empty but for its end-of-file key counts as readable: see ready().
  size_t readable() const;
  // A read would not wait: by the settings (a line; VMIN bytes, or fewer where the reader wants fewer).
  bool ready(size_t wanted) const;
  // At most `most` bytes of the first line, or of what there is without ICANON. Empty at end of file (and if nothing is there).
  std::string read(size_t most, Effects& effects);
  // What a read took but could not deliver goes back in front.
  void put_back(std::string bytes);

  // A program's output: as much as there is room for, processed; returns how many bytes of `bytes` were taken.
  size_t output(std::string_view bytes, Effects& effects);
  // The same, all of it: for who has asked output_full() before and must not keep a rest.
  void output_whole(std::string_view bytes, Effects& effects);
  bool output_full() const { return output_.size() >= kMostOutput; }
  size_t output_pending() const { return output_.size(); }
  // Takes at most `most` processed bytes for the other end; nothing while output is stopped (^S).
  std::string take_output(size_t most, Effects& effects);
  void put_output_back(std::string_view bytes) { output_.insert(0, bytes); }
  bool output_available() const { return !output_.empty() && !stopped_; }

  void flush_input(Effects& effects);
  void flush_output(Effects& effects);
  void stop_output(Effects& effects);
  void start_output(Effects& effects);

 private:
  bool has(uint32_t flags, uint32_t flag) const { return (flags & flag) != 0; }
  bool canonical() const;
  bool is_key(int index, uint8_t c) const;
  size_t buffered() const;
  void receive(uint8_t c, Effects& effects);
  bool receive_flow(uint8_t c, Effects& effects);
  bool receive_signal(uint8_t c, Effects& effects);
  bool receive_editing(uint8_t c, Effects& effects);
  void add(uint8_t c, Effects& effects);
  void finish_line();
  void end_line(Effects& effects);
  void erase_character();
  void erase_word();
  void erase_line();
  void echo(uint8_t c);
  void echo_raw(std::string_view bytes);
  void echo_erased(std::string_view erased);
  void process(uint8_t c, std::string& to);
  unsigned width_of(std::string_view text, unsigned start) const;

  TerminalSettings settings_ = TerminalSettings::usual();
  std::deque<std::string> lines_;  // finished ones
  size_t finished_ = 0;            // bytes in them
  std::string current_;            // the line that is being typed, or everything without ICANON
  std::string output_;             // processed, for the other end
  unsigned column_ = 0, line_start_column_ = 0;
  bool literal_next_ = false, stopped_ = false;
};

}  // namespace caisson::kernel

// As much of D-Bus as calls to systemd need (D-Bus specification 0.41, "Message Protocol"): one connection, one call at a time, arguments
// of simple types. No bus daemon is spoken to: systemd listens on a socket of its own.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace caisson::host {

// Values one after the other, each aligned as its type asks ("Marshaling"), little-endian.
class DbusWriter {
 public:
  void align(size_t to);
  void byte(uint8_t value);
  void u32(uint32_t value);
  void u64(uint64_t value);
  void text(std::string_view value);       // s, o
  void signature(std::string_view value);  // g
  // An array: its length is filled in when it is closed. element_alignment: 8 for structs.
  size_t open_array(size_t element_alignment);
  void close_array(size_t opened);

  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
  std::vector<std::pair<size_t, size_t>> open_;  // where the length is, where the first element begins
};

// The properties of a unit: a(sv).
class DbusProperties {
 public:
  void text(std::string_view name, std::string_view value);
  void boolean(std::string_view name, bool value);
  void u64(std::string_view name, uint64_t value);
  void u32s(std::string_view name, const std::vector<uint32_t>& values);
  void bytes(std::string_view name, const std::vector<uint8_t>& values);
  bool empty() const { return items_.empty(); }
  void write(DbusWriter& into) const;

 private:
  struct Item {
    std::string name, type, text;
    uint64_t number = 0;
    std::vector<uint32_t> numbers;
    std::vector<uint8_t> raw;
  };
  std::vector<Item> items_;
};

struct DbusMessage {
  enum Type : uint8_t { Call = 1, Return = 2, Error = 3, Signal = 4 };
  uint8_t type = 0;
  uint32_t serial = 0, reply_to = 0;
  std::string member, error, signature;  // error: its name, such as "org.freedesktop.systemd1.NoSuchUnit"
  std::string body;
  // The first values of the body, as far as they are u (decimal), s or o.
  std::vector<std::string> values() const;
};
// One message from the front of bytes; nothing while it is not complete. EPROTO for what is none.
Result<std::optional<DbusMessage>> take_dbus_message(std::string& bytes);
// A method call, ready to be sent.
std::string dbus_call(uint32_t serial, std::string_view destination, std::string_view path, std::string_view interface,
                      std::string_view member, std::string_view signature, std::string_view body);

class DbusConnection {
 public:
  using Clock = std::chrono::steady_clock;
  // Connects to a Unix socket and authenticates as who we are. Everything after it ends at the deadline (ETIMEDOUT).
  static Result<DbusConnection> connect(const std::string& socket, Clock::time_point deadline);
  // Sends a call and waits for its answer. An answer that is an error has its text; error_name gets its name, "" otherwise.
  Result<DbusMessage> call(std::string_view destination, std::string_view path, std::string_view interface, std::string_view member,
                           std::string_view signature, std::string_view body, std::string* error_name = nullptr);
  // The next signal: one that came while a call waited, or a new one.
  Result<DbusMessage> next_signal();

 private:
  Result<void> fill();
  Result<DbusMessage> next();

  UniqueFd socket_;
  Clock::time_point deadline_;
  uint32_t serial_ = 0;
  std::string received_;
  std::vector<DbusMessage> signals_;
};

}  // namespace caisson::host

#include "ingest/redactor.hpp"

#include <algorithm>
#include <utility>

#include "ingest/json_steps.hpp"
#include "spool/sha256.hpp"
#include "spool/type_match.hpp"

namespace sluice::ingest {
namespace {

constexpr std::size_t kNoRule = ~std::size_t{0};
constexpr std::size_t kBufferKeptBytes = 256 * 1024;
// Half of the hash: as many as there are of UUIDs.
constexpr std::size_t kHashDigits = 32;

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string lowered(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), lower);
  return text;
}

bool equals_lowered(std::string_view text, std::string_view lower_text) {
  return std::equal(text.begin(), text.end(), lower_text.begin(), lower_text.end(),
                    [](char a, char b) { return lower(a) == b; });
}

std::string json_string(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string json = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      json += {'\\', c};
    } else if (byte < 0x20) {
      json += {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      json += c;
    }
  }
  return json + '"';
}

}  // namespace

// One line's values from the first to the last, but for those inside of a value that is hit.
class Redactor::Walk {
 public:
  explicit Walk(std::vector<RedactRule> rules)
      : rules_(std::move(rules)), counts_(rules_.size()), applies_(rules_.size()) {
    for (std::size_t rule = 0; rule < rules_.size(); ++rule) {
      replacements_.push_back(json_string(rules_[rule].with));
      for (const std::string& field : rules_[rule].fields) {
        if (field.starts_with('/')) {
          pointers_.push_back({rule, pointer_tokens(field)});
        } else {
          names_.push_back({rule, lowered(field)});
        }
      }
    }
    choose_rules();
  }

  std::string_view redact(std::string_view line, std::string_view type) {
    if (type != type_) {
      type_ = type;
      choose_rules();
    }
    if (!any_applies_) return line;
    line_ = line;
    copied_ = 0;
    if (out_.capacity() > kBufferKeptBytes) out_ = {};
    out_.clear();
    active_ = first_active_;
    object(skip_json_space(line_, 0), 0, 0);
    if (copied_ == 0) return line;
    out_ += line_.substr(copied_);
    return out_;
  }

  [[nodiscard]] const std::vector<RedactRule>& rules() const { return rules_; }
  [[nodiscard]] std::uint64_t count(std::size_t rule) const {
    return counts_[rule].load(std::memory_order_relaxed);
  }

 private:
  struct Pointer {
    std::size_t rule;
    std::vector<std::string> tokens;
  };
  struct Name {
    std::size_t rule;
    std::string lower;
  };

  void choose_rules() {
    for (std::size_t i = 0; i < rules_.size(); ++i) {
      applies_[i] = rules_[i].match.empty() || spool::fits_pattern(type_, rules_[i].match);
    }
    any_applies_ = std::find(applies_.begin(), applies_.end(), true) != applies_.end();
    first_active_.clear();
    for (std::size_t i = 0; i < pointers_.size(); ++i) {
      if (applies_[pointers_[i].rule]) first_active_.push_back(i);
    }
    name_lengths_ = 0;
    for (const Name& name : names_) {
      if (applies_[name.rule]) name_lengths_ |= length_bit(name.lower.size());
    }
  }

  static std::uint64_t length_bit(std::size_t length) { return std::uint64_t{1} << (length & 63); }

  // Pointers that fit the way down to a container stand in active_ from `first` on; those that fit
  // one of its members or elements too are put behind them while that is looked through.

  std::size_t object(std::size_t at, std::size_t depth, std::size_t first) {
    const std::size_t last = active_.size();
    at = skip_json_space(line_, at + 1);
    while (line_[at] != '}') {
      const std::size_t key_end = skip_json_string(line_, at);
      const std::size_t rule = rule_of_key(line_.substr(at + 1, key_end - at - 2), depth, first);
      at = skip_json_space(line_, key_end) + 1;
      at = skip_json_space(line_, value(skip_json_space(line_, at), rule, depth, last));
      active_.resize(last);
      if (line_[at] == ',') at = skip_json_space(line_, at + 1);
    }
    return at + 1;
  }

  std::size_t array(std::size_t at, std::size_t depth, std::size_t first) {
    const std::size_t last = active_.size();
    at = skip_json_space(line_, at + 1);
    for (std::size_t index = 0; line_[at] != ']'; ++index) {
      const std::size_t rule =
          first == last ? kNoRule : rule_of_pointers(std::to_string(index), depth, first);
      at = skip_json_space(line_, value(at, rule, depth, last));
      active_.resize(last);
      if (line_[at] == ',') at = skip_json_space(line_, at + 1);
    }
    return at + 1;
  }

  // Returns where the value ends.
  std::size_t value(std::size_t at, std::size_t rule, std::size_t depth, std::size_t first) {
    if (rule != kNoRule) {
      const std::size_t end = skip_json_value(line_, at);
      replace(at, end, rule);
      return end;
    }
    const bool nothing_in_there = name_lengths_ == 0 && active_.size() == first;
    if (nothing_in_there || (line_[at] != '{' && line_[at] != '['))
      return skip_json_value(line_, at);
    return line_[at] == '{' ? object(at, depth + 1, first) : array(at, depth + 1, first);
  }

  // Where `nul` is "strip", a key may lose its NULs later on; so they do not hide it.
  std::size_t rule_of_key(std::string_view literal, std::size_t depth, std::size_t first) {
    if (literal.find('\\') == std::string_view::npos) return rule_of_text(literal, depth, first);
    std::string key = decoded_json(literal);
    std::erase(key, '\0');
    return rule_of_text(key, depth, first);
  }

  std::size_t rule_of_text(std::string_view key, std::size_t depth, std::size_t first) {
    std::size_t hit = rule_of_pointers(key, depth, first);
    if ((name_lengths_ & length_bit(key.size())) == 0) return hit;
    for (const Name& name : names_) {
      if (name.rule < hit && applies_[name.rule] && equals_lowered(key, name.lower)) {
        hit = name.rule;
      }
    }
    return hit;
  }

  std::size_t rule_of_pointers(std::string_view key, std::size_t depth, std::size_t first) {
    std::size_t hit = kNoRule;
    const std::size_t last = active_.size();
    for (std::size_t i = first; i < last; ++i) {
      const Pointer& pointer = pointers_[active_[i]];
      const std::string& token = pointer.tokens[depth];
      if (token != "*" && token != key) continue;
      if (pointer.tokens.size() == depth + 1) {
        hit = std::min(hit, pointer.rule);
      } else {
        active_.push_back(active_[i]);
      }
    }
    return hit;
  }

  void replace(std::size_t begin, std::size_t end, std::size_t rule) {
    add(counts_[rule], 1);
    out_ += line_.substr(copied_, begin - copied_);
    copied_ = end;
    if (rules_[rule].action == RedactRule::Action::replace) {
      out_ += replacements_[rule];
      return;
    }
    const std::string_view raw = line_.substr(begin, end - begin);
    const auto hash = spool::hmac_sha256(
        rules_[rule].salt,
        raw.starts_with('"') ? decoded_json(raw.substr(1, raw.size() - 2)) : std::string(raw));
    out_ += "\"hmac-sha256:" + spool::hex_text(hash, kHashDigits) + '"';
  }

  const std::vector<RedactRule> rules_;
  std::vector<std::string> replacements_;  // by rule, as JSON
  std::vector<Pointer> pointers_;
  std::vector<Name> names_;
  std::vector<Count> counts_;

  // For events of the type that came last.
  std::string type_;
  std::vector<bool> applies_;  // by rule
  bool any_applies_ = false;
  std::vector<std::size_t> first_active_;  // into pointers_
  std::uint64_t name_lengths_ = 0;         // of the names that apply

  // Of the line at hand.
  std::string_view line_;
  std::vector<std::size_t> active_;  // into pointers_
  std::string out_;
  std::size_t copied_ = 0;  // of line_, into out_
};

Redactor::Redactor(std::vector<RedactRule> rules)
    : walk_(std::make_unique<Walk>(std::move(rules))) {}
Redactor::~Redactor() = default;

std::string_view Redactor::redact(std::string_view line, std::string_view type) {
  return walk_->redact(line, type);
}

std::size_t Redactor::rules() const {
  return walk_->rules().size();
}

const std::string& Redactor::name(std::size_t rule) const {
  return walk_->rules()[rule].name;
}

std::uint64_t Redactor::count(std::size_t rule) const {
  return walk_->count(rule);
}

}  // namespace sluice::ingest
